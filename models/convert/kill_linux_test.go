package convert

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestMain is also the program that is killed: it converts a folder, and stops in the middle.
func TestMain(m *testing.M) {
	if dir := os.Getenv("CONVERT_AND_WAIT"); dir != "" {
		_, err := Folder(context.Background(), dir, os.Getenv("CONVERT_TO"), Config{Progress: func(done, total int64) {
			if done > total/2 {
				fmt.Println("half")
				select {}
			}
		}})
		fmt.Println(err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func TestAConversionThatIsKilledLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	if f, err := nameless(dir); err != nil {
		t.Skipf("this file system has no files without a name: %v", err)
	} else {
		f.Close()
	}
	w := newTwin(t, "llama", large())
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "CONVERT_AND_WAIT="+w.dir, "CONVERT_TO="+filepath.Join(dir, "out.gguf"))
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if said, _ := bufio.NewReader(out).ReadString('\n'); said != "half\n" {
		t.Errorf("the program said %q", said)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err == nil {
		t.Error("the program ended well before it was killed")
	}
	wantEmpty(t, dir)
}
