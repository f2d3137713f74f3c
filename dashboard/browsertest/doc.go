// Package browsertest looks at the dashboard in a real browser: it walks through every
// page and every action, checks that what changes arrives, that a payload stays text and
// that nothing needs a script, and leaves pictures to look at. It is a module of its
// own, so that nobody who uses Sequencer gets a browser's driver with it.
//
// The browser is named by SEQUENCER_TEST_CHROMIUM, or found as chromium. Pictures go to
// the directory in SEQUENCER_TEST_SCREENSHOTS, else to the test's own.
package browsertest
