//go:build linux && !race

package crashtest_test

const underRace = false
