package store

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/centram/centram"
	"go.uber.org/goleak"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(t *testing.T, dir string) *DB {
	t.Helper()
	db, err := Open(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

func TestSchemaIsAsPromised(t *testing.T) {
	db := open(t, t.TempDir())
	rows, err := db.Query(`SELECT sql FROM sqlite_schema
		WHERE sql IS NOT NULL AND name NOT LIKE 'search_%' AND name NOT LIKE 'sqlite_%' AND name NOT LIKE 'goose_%'
		ORDER BY rowid`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var dump strings.Builder
	for rows.Next() {
		var s string
		if err := rows.Scan(&s); err != nil {
			t.Fatal(err)
		}
		dump.WriteString(s + ";\n\n")
	}
	golden := filepath.Join("testdata", "schema.sql")
	if *update {
		if err := os.WriteFile(golden, []byte(dump.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if dump.String() != string(want) {
		t.Errorf("the schema differs from %s; run with -update and review. Got:\n%s", golden, dump.String())
	}
}

func TestEveryConnectionHasThePragmas(t *testing.T) {
	db := open(t, t.TempDir())
	for range 3 { // held, so that the pool opens another each time
		conn, err := db.Conn(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		for pragma, want := range map[string]string{
			"journal_mode": "wal", "foreign_keys": "1", "busy_timeout": "5000", "synchronous": "2",
		} {
			var got string
			if err := conn.QueryRowContext(t.Context(), "PRAGMA "+pragma).Scan(&got); err != nil {
				t.Fatal(err)
			}
			if got != want {
				t.Errorf("PRAGMA %s: got %s, want %s", pragma, got, want)
			}
		}
	}
}

func TestFilesAreForTheOwnerOnly(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a ?#%& directory")
	db := open(t, dir)
	if err := (Settings{db.DB}).Save(t.Context(), "x", 1); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]fs.FileMode{
		".": 0o700, FileName: 0o600, FileName + "-wal": 0o600, FileName + "-shm": 0o600,
	} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if got := info.Mode().Perm(); got != want {
			t.Errorf("%s: got %o, want %o", name, got, want)
		}
	}
}

func TestManyMayMakeTheDatabaseAtOnce(t *testing.T) {
	for range 5 {
		dir := t.TempDir()
		failed := make(chan error, 12)
		for i := range cap(failed) {
			go func() {
				db, err := Open(t.Context(), dir)
				if err == nil {
					err = errors.Join(Settings{db.DB}.Save(t.Context(), fmt.Sprint(i), i), db.Close())
				}
				failed <- err
			}()
		}
		for range cap(failed) {
			if err := <-failed; err != nil {
				t.Error(err)
			}
		}
		var n int
		if err := open(t, dir).QueryRow(`SELECT count(*) FROM settings`).Scan(&n); err != nil || n != cap(failed) {
			t.Errorf("got %d settings, %v, want %d", n, err, cap(failed))
		}
	}
}

func TestADatabaseThatIsGoneIsNotMadeAnew(t *testing.T) {
	dir := t.TempDir()
	db := open(t, dir)
	held, err := db.Conn(t.Context()) // so that the next needs one of its own
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	if err := os.Rename(dir, dir+".away"); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	err = Settings{db.DB}.Save(t.Context(), "x", 1)
	if u := Unwritable(err); u == nil || u.Code != centram.Unavailable || !strings.Contains(u.Message, "gone") || u.Hint == "" {
		t.Errorf("got %v, %v", err, u)
	}
	if _, err := os.Stat(filepath.Join(dir, FileName)); err == nil {
		t.Error("there is a new database")
	}
}

func TestOpenRefusesANewerSchema(t *testing.T) {
	dir := t.TempDir()
	db := open(t, dir)
	if _, err := db.Exec(`INSERT INTO goose_db_version (version_id, is_applied) VALUES (999, 1)`); err != nil {
		t.Fatal(err)
	}
	db.Close()
	_, err := Open(t.Context(), dir)
	if centram.CodeOf(err) != centram.Conflict || !strings.Contains(err.Error(), "newer Centram") {
		t.Errorf("got %v, want a conflict that names a newer Centram", err)
	}
}

func TestOpenLeavesADamagedFileAlone(t *testing.T) {
	for name, damage := range map[string]func([]byte) []byte{
		"no database": func([]byte) []byte { return []byte(strings.Repeat("This is a letter. ", 500)) },
		"a page of zeros": func(b []byte) []byte {
			clear(b[4096:8192])
			return b
		},
		"cut short": func(b []byte) []byte { return b[:len(b)/2] },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			open(t, dir).Close()
			path := filepath.Join(dir, FileName)
			content, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			content = damage(content)
			if err := os.WriteFile(path, content, 0o600); err != nil {
				t.Fatal(err)
			}
			_, err = Open(t.Context(), dir)
			if centram.CodeOf(err) != centram.Invalid || !strings.Contains(err.Error(), path) || centram.HintOf(err) == "" {
				t.Errorf("got %v, want one that names %s and has a hint", err, path)
			}
			after, err := os.ReadFile(path)
			if err != nil || string(after) != string(content) {
				t.Errorf("the file was changed (%v)", err)
			}
		})
	}
}

func TestSettingsOutliveTheProcess(t *testing.T) {
	dir := t.TempDir()
	type doc struct{ A, B string }
	db := open(t, dir)
	got := doc{B: "default"}
	if err := (Settings{db.DB}).Load(t.Context(), "app", &got); err != nil || got.B != "default" {
		t.Fatalf("got %v, %v; want the default", got, err)
	}
	if err := (Settings{db.DB}).Save(context.Background(), "app", doc{"ä", "b"}); err != nil {
		t.Fatal(err)
	}
	db.Close()
	if err := (Settings{open(t, dir).DB}).Load(t.Context(), "app", &got); err != nil || got != (doc{"ä", "b"}) {
		t.Errorf("got %v, %v", got, err)
	}
}
