// Package fileop makes operations of files: SQL scripts and executables that lie
// in one directory under timestamped names, so that a team without Go can use the
// stock command.
//
//	operations/
//	  20240115120000_seed_admin.sql        statements, in the operation's transaction
//	  20240115130000_warm_cache.sh         anything with the x bit
//	  seed_admin_undo.sql                  a rollback, named by a header
//
// # Which files
//
// A file whose name starts with a digit is an operation if it ends in .sql or may
// be executed. Its name without the last ending is the operation's name, and must
// begin with a full, possible timestamp: a typo in a date is an error, never an
// operation that no run offers. A script that starts with #! and has lost its x
// bit is an error too.
//
// Such a file under another name is an operation that no run offers and that is
// executed, or queued for a worker, by name, as often as wanted: if it declares
// something, be it a description. Everything else in the directory is left alone,
// and told in [Set.Notices].
//
// # What a file declares
//
// Comments at its top, before the first statement, state what Go code states by
// methods:
//
//	-- sequencer: tries 3
//	-- sequencer: backoff 10s, 1m
//	-- sequencer: depends migration:20240115110000_create_users, seed_admin
//
// One without a timestamp may say when it runs by itself: workers dispatch it, once
// per tick, in UTC unless a zone is given.
//
//	-- sequencer: schedule 30 2 * * *
//	-- sequencer: schedule-zone Europe/Berlin
//	-- sequencer: schedule-missed skip
//
// In scripts the comment starts with # or //. See [Header] for the keys. An unknown
// key, a bad value, or a line of this form further down is an error with file and
// line.
//
// # What an executable is told, and answers
//
// Its environment holds SEQUENCER_OPERATION, SEQUENCER_ATTEMPT, SEQUENCER_EXECUTION,
// SEQUENCER_RUN, SEQUENCER_ENV, SEQUENCER_DATABASE_URL, and SEQUENCER_ROLLBACK=1 when
// it undoes. One that is executed by name reads the input it was given, as JSON, from
// its stdin. What it prints goes to the log line by line; the last lines of its
// stderr become the error.
//
//	exit   0  done
//	     75  not yet: try again after the backoff, within tries, without an error (EX_TEMPFAIL)
//	     100  skipped for good; the last line of stdout is the reason
//	     101  skipped for now: the next run offers it again
//	     102  failed for good, whatever tries are left
//	     else  an error, retried within tries
//
// Asked to stop, by a timeout or a person, it gets SIGTERM and five seconds later
// SIGKILL, together with everything it started. On Linux it also gets SIGTERM when
// the command itself dies. What it does is outside the ledger's transaction, so one
// whose process died is interrupted and waits for a person, unless it is marked
// idempotent.
package fileop
