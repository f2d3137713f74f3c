//go:build linux && !race

package crashtest

// UnderRace reports that the tests were built with the race detector.
const UnderRace = false
