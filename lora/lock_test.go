package lora

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/centram/centram"
)

func TestASecondRunWithTheSameOutputIsRefused(t *testing.T) {
	dir := folder(t)
	cfg := small(dir)
	if _, err := Run(t.Context(), cfg, nil); err != nil {
		t.Fatal(err)
	}
	want := adapterBytes(t, dir)
	if err := os.Remove(cfg.Out); err != nil {
		t.Fatal(err)
	}
	tried := 0
	second := func(e Event) {
		if e.Stage == Train && e.Step != 5 {
			return
		}
		tried++
		other := cfg
		other.Rank, other.Out = 2, filepath.Join(dir, "data", "..", filepath.Base(cfg.Out)) // another way to the same file
		_, err := Run(t.Context(), other, nil)
		if centram.CodeOf(err) != centram.Conflict || !strings.Contains(err.Error(), fmt.Sprintf("process %d", os.Getpid())) || centram.HintOf(err) == "" {
			t.Errorf("at stage %s the second run ended with %v (hint %q), want a conflict that names the process", e.Stage, err, centram.HintOf(err))
		}
	}
	if _, err := Run(t.Context(), cfg, second); err != nil {
		t.Fatal(err)
	}
	if tried != 6 {
		t.Errorf("the second run was tried %d times, want 6", tried)
	}
	if !bytes.Equal(adapterBytes(t, dir), want) {
		t.Error("the first run's adapter has other bytes than undisturbed")
	}
	if _, err := os.Stat(cfg.Out + ".lock"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the lock's file: %v, want it gone", err)
	}
}

// A lock whose file was removed under it must not let two others in.
func TestALockIsOfTheFileThatIsThere(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	got := make(chan *lock)
	first, err := acquire(path, 0)
	if err != nil {
		t.Fatal(err)
	}
	for range 8 {
		go func() {
			l, err := acquire(path, 0)
			if err != nil {
				t.Error(err)
			}
			got <- l
		}()
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	for range 8 {
		l := <-got
		select {
		case <-got:
			t.Fatal("two have the lock")
		default:
		}
		if _, err := acquire(path, syscall.LOCK_NB); !errors.Is(err, errHeld) {
			t.Fatalf("got %v while another has the lock, want %v", err, errHeld)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAFolderThatDisappearsIsNamed(t *testing.T) {
	dir := folder(t)
	cfg := small(dir)
	cfg.SaveEvery = 1
	cfg.Out = filepath.Join(dir, "out", "adapter.gguf")
	if err := os.Mkdir(filepath.Dir(cfg.Out), 0o755); err != nil {
		t.Fatal(err)
	}
	_, err := Run(t.Context(), cfg, func(e Event) {
		if e.Step == 3 {
			_ = os.RemoveAll(filepath.Dir(cfg.Out))
		}
	})
	if centram.CodeOf(err) != centram.Unavailable || !strings.Contains(err.Error(), "at step 4") || !strings.Contains(centram.HintOf(err), filepath.Dir(cfg.Out)+" is gone") {
		t.Errorf("got %v (hint %q), want that the folder is gone", err, centram.HintOf(err))
	}
}

// fullDisk is a training for which there is no more room from step 5 on. It runs in a process of its own (TestMain).
func fullDisk(dir string) error {
	cfg := small(dir)
	cfg.SaveEvery = 1
	_, err := Run(context.Background(), cfg, func(e Event) {
		if e.Step == 5 {
			// What is written from now on ends within the first save. The signal is ignored in TestMain.
			_ = syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: 4096, Max: 4096})
		}
	})
	return err
}

func TestAFullDiskLeavesWhatWasSaved(t *testing.T) {
	dir := folder(t)
	cfg := small(dir)
	if _, err := Run(t.Context(), cfg, nil); err != nil {
		t.Fatal(err)
	}
	want := adapterBytes(t, dir)
	if err := os.Remove(cfg.Out); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "CENTRAM_TRAIN_IN="+dir, "CENTRAM_TRAIN_FULL_DISK=1")
	out, err := cmd.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "could not be saved at step 6") || !strings.Contains(string(out), "go on at step 5") {
		t.Fatalf("got %v and %q, want that step 6 could not be saved and where it goes on", err, out)
	}
	left, err := filepath.Glob(cfg.Out + "*")
	if err != nil || len(left) != 1 || left[0] != cfg.Out+".training" {
		t.Errorf("beside the adapter there are %v, %v, want what was saved alone", left, err)
	}
	resumed := -1
	e, err := Run(t.Context(), cfg, func(e Event) {
		if e.Stage == Train && resumed < 0 {
			resumed = e.Step
		}
	})
	if err != nil || !e.Resumed || resumed != 6 {
		t.Errorf("got %+v, %v, with step %d first, want it to go on with step 6", e.Event, err, resumed)
	}
	if !bytes.Equal(adapterBytes(t, dir), want) {
		t.Error("the adapter has other bytes than without the full disk")
	}
}

// An adapter that cannot be written costs no step: the next run has only that to do.
func TestAnAdapterThatCannotBeWrittenIsWrittenLater(t *testing.T) {
	dir := folder(t)
	cfg := small(dir)
	block := cfg.Out + ".tmp" // a folder where the file is to be
	_, err := Run(t.Context(), cfg, func(e Event) {
		if e.Stage == After {
			_ = os.MkdirAll(filepath.Join(block, "x"), 0o755)
		}
	})
	if centram.CodeOf(err) != centram.Unavailable || !strings.Contains(centram.HintOf(err), "go on at step 30") {
		t.Fatalf("got %v (hint %q), want that it goes on at step 30", err, centram.HintOf(err))
	}
	if err := os.RemoveAll(block); err != nil {
		t.Fatal(err)
	}
	if e, err := Run(t.Context(), cfg, nil); err != nil || !e.Resumed {
		t.Errorf("got %+v, %v, want it to go on", e.Event, err)
	}
}
