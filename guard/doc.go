// Package guard holds ready-made guards. A guard answers one question before
// anything executes or rolls back: may this process do that? (Whether a single
// operation should run is a condition of the operation, not a guard.)
//
//	hosts, err := guard.Hostname("deploy-1", "deploy-2")
//	nets, err := guard.CIDR("10.0.0.0/8", "fd00::/8")
//	envs, err := guard.Environment(os.Getenv("APP_ENV"), "production")
//	calm, err := guard.Window(guard.Hours{Days: guard.Weekdays, From: "22:00", To: "04:00", Location: berlin})
//	free, err := guard.Func("disk", func(ctx context.Context) (bool, string, error) { … })
//
// Each is a value for sequencer.Config.Guards. All of them must allow; an error
// from a guard blocks as well. What cannot be right is an error when the guard is
// made, never a guard that lets everybody through.
//
// An empty list means "no restriction": the guard allows (S27.7). Such a list
// often comes from a variable that nobody has set; [Strict] makes it an error:
//
//	hosts, err := guard.Strict(guard.Hostname(names...))
//
// Guards are immutable and safe for concurrent use; the With methods return copies.
package guard
