package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/gosequencer/sequencer/seal"
)

// newKeys makes key rings and changes them. What becomes of the ledger is for rekey.
func newKeys() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "keys",
		Short: "Make and change the key ring of encrypted operations",
		Long: "A key ring is a file with the keys that open what encrypted operations keep in the ledger; one of them seals.\n" +
			"To change keys without downtime: add one, give the file to every process; use it, give the file to every\n" +
			"process; rekey; and once rekey --dry-run lists nothing under the old key, drop that.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(
		keyCommand("new", "Make a ring with one key, in a file that does not exist yet", func(path, id string) (*seal.File, error) {
			if _, err := os.Lstat(path); err == nil {
				return nil, fmt.Errorf("%s exists already: add a key to it, or name another file", path)
			}
			return seal.NewFile(id)
		}),
		keyCommand("add", "Add a key, which opens what it sealed and does not seal yet", change((*seal.File).Add)),
		keyCommand("use", "Make a key the one that seals", change((*seal.File).Use)),
		keyCommand("drop", "Remove a key: what is sealed with it is lost", change((*seal.File).Drop)),
	)
	return cmd
}

// keyCommand is a command that leaves a ring in a file.
func keyCommand(name, short string, do func(path, id string) (*seal.File, error)) *cobra.Command {
	return &cobra.Command{
		Use:   name + " FILE ID",
		Short: short,
		Args:  cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			f, err := do(args[0], args[1])
			if err != nil {
				return err
			}
			if err := f.Write(args[0]); err != nil {
				return err
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), f)
			return err
		},
	}
}

// change reads a ring, to be changed.
func change(how func(f *seal.File, id string) error) func(path, id string) (*seal.File, error) {
	return func(path, id string) (*seal.File, error) {
		f, err := seal.ReadFile(path)
		if err != nil {
			return nil, err
		}
		return f, how(f, id)
	}
}
