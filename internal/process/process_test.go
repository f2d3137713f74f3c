package process_test

import (
	"os/exec"
	"runtime"
	"testing"

	"github.com/gosequencer/sequencer/internal/process"
)

func TestAKilledProcessIsGoneAndALiveOneIsNot(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("only Linux tells")
	}
	self := process.Self()
	if self.Gone(self) {
		t.Error("this process takes itself for dead")
	}
	cmd := exec.CommandContext(t.Context(), "sleep", "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	other := process.Of(self, cmd.Process.Pid)
	if other.Start == "" || self.Gone(other) {
		t.Errorf("a running child %+v is taken for dead", other)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	if !self.Gone(other) {
		t.Error("a killed child is not seen as gone")
	}
	elsewhere := other
	elsewhere.Boot = "another machine"
	if self.Gone(elsewhere) {
		t.Error("a process of another machine cannot be proved dead from here")
	}
	reused := self
	reused.Start = "1"
	if !self.Gone(reused) {
		t.Error("a pid that was handed out again is another process")
	}
}
