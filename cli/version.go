package cli

import (
	"cmp"
	"context"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// versionInfo is what the Go toolchain stamped into the binary.
type versionInfo struct {
	Version  string `json:"version"`
	Revision string `json:"revision,omitempty"`
	Go       string `json:"go"`
}

func newVersion(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version of this binary",
		Args:  takes(),
		RunE: a.without(func(_ context.Context, s *session) error {
			v := readVersion()
			if s.json {
				s.document(v)
				return nil
			}
			s.printf("%s %s %s", s.name, v.Version, v.Go)
			return nil
		}),
	}
}

func readVersion() versionInfo {
	v := versionInfo{Version: "unknown"}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return v
	}
	v.Version, v.Go = cmp.Or(info.Main.Version, "(devel)"), info.GoVersion
	for _, setting := range info.Settings {
		if setting.Key == "vcs.revision" {
			v.Revision = setting.Value
		}
	}
	return v
}
