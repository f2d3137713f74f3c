// Package habits holds ordinary tests that keep the habits of this repository. It has no code of its own.
//
//   - imports_test.go: which package may import which, and that shipped packages stay free of test code
//   - comments_test.go: a package comment everywhere
//   - handle_test.go: one caller of an operation's Handle
//   - sleep_test.go: no sleeping in tests outside a synctest bubble, unless a "// sleep:" comment gives the reason
//   - readme_test.go: code in the README and the guides equals the examples
//   - alone_test.go: nothing in the repository points outside of it
//   - deadcode_test.go: no shipped package switches off the linker's dead-code elimination
//
// The tests read the sources as they lie in the tree, so they need no build and do not mind packages that do not exist yet.
// Only deadcode_test.go builds, and is left out with -short. Each rule is also tried on a small source that breaks it:
// a rule that catches nothing looks just like one that is kept.
package habits
