package storagetest

import (
	"testing"

	"github.com/gosequencer/sequencer/storage"
)

func histories(t *testing.T, open func(t *testing.T) storage.Store) {}
