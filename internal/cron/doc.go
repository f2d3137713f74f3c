// Package cron answers when a schedule is due. It is a calculation: the same
// expression and time zone give the same instants in every process, whatever has
// fired so far.
//
// # Expressions
//
// Five fields, minute hour day-of-month month day-of-week, or six with seconds in
// front; @hourly, @daily, @weekly, @monthly, @yearly; or @every and a duration of
// whole seconds. Sunday is 0 and 7, months and weekdays have names, L, 15W, FRI#2
// and FRI#L mean the last day, the weekday nearest to the 15th, the second and the
// last Friday. Day of month and day of week are alternatives where both are
// restricted, as in every crontab.
//
// An interval counts from a fixed origin, midnight UTC of the year 1, rather than
// from when somebody started: @every 15m is due at :00, :15, :30 and :45, and
// @every 24h at midnight UTC.
//
// # When clocks change
//
// An expression names times of the wall clock of its zone. Where clocks jump
// forward over such a time, it is due as long after the jump as it would have been
// after the last instant before it: 02:30 of a night that goes from 02:00 to 03:00
// is 03:30. Nothing is lost, and nothing happens twice: where the moved instant is
// due anyway, it is due once. Where clocks are set back and a time comes twice, the
// first one counts; but an expression whose hours are * (or *, divided) names no
// time of day, it keeps a pace, and is due each time.
package cron
