package blob

import (
	"bytes"
	"os"
	"slices"
	"testing"

	"github.com/centram/centram"
	"golang.org/x/sys/unix"
)

// smallDisk is a file system of its own with n MiB.
func smallDisk(t *testing.T, n string) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size="+n+"m"); err != nil {
		t.Skipf("a small disk cannot be mounted here: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func TestAFullDiskIsAnErrorThatLosesNothing(t *testing.T) {
	s := open(t, smallDisk(t, "6"))
	kept := content(2 * mib)
	put(t, s, kept)
	names := []string{"", ".manifest"}

	big := content(8 * mib)
	_, err := s.Put(t.Context(), bytes.NewReader(big), 8*mib)
	wantCode(t, err, centram.Unavailable)
	if centram.HintOf(err) == "" {
		t.Error("the error has no hint")
	}
	wantNames(t, s.Dir, names...)
	_, err = s.Begin(t.Context(), manifestOf(big))
	wantCode(t, err, centram.Unavailable)
	wantNames(t, s.Dir, names...)
	wantBlob(t, s, kept)
	if u := s.Usage(); u.Bytes != 2*mib {
		t.Errorf("%d bytes are used, want %d", u.Bytes, 2*mib)
	}
}

// A file system that cannot preallocate is full in the middle.
func TestAFetchGoesOnWhenThereIsRoomAgain(t *testing.T) {
	dir := smallDisk(t, "6")
	b := content(8 * mib)
	m := manifestOf(b)
	s := open(t, dir)
	part := s.path(m.Blob, partExt)
	if err := os.WriteFile(part, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(part, 8*mib); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir)
	src := &remote{name: 1, content: b}
	_, err := Fetch(t.Context(), FetchConfig{Store: s, Manifest: m, Sources: of(src)})
	wantCode(t, err, centram.Unavailable)
	have := chunks(s.Have(m.Blob).Bits)
	if len(have) < 4 || len(have) > 5 {
		t.Fatalf("have chunks %v of 8, want what fits", have)
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_REMOUNT, "size=16m"); err != nil {
		t.Fatal(err)
	}
	src = &remote{name: 1, content: b}
	mustFetch(t, FetchConfig{Store: s, Manifest: m, Sources: of(src)})
	if got := src.asks(); len(got) != 8-len(have) || slices.Contains(got, have[0]) {
		t.Errorf("asked for %v after %v were there", got, have)
	}
	wantBlob(t, s, b)
}
