// Package store opens the one SQLite file that the daemon keeps: centram.db in its data directory. The tables are
// described in migrations/, each with what must hold of its rows; the packages that own the rows hold the queries.
//
// The file is in WAL mode with full synchronisation, so a transaction that was committed is still there after a crash
// or a power cut. A DB may be used from many goroutines.
package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"syscall"

	"github.com/centram/centram"
	"github.com/mattn/go-sqlite3"
)

// FileName is the name of the database in the data directory.
const FileName = "centram.db"

// DB is the open database.
type DB struct {
	*sql.DB
	Path string
}

// Open opens the database in dir and brings its schema up to date. Both are made if they do not exist, for the owner's
// eyes only. It fails with centram.Conflict if a newer Centram wrote the file, and with centram.Invalid if the file is
// damaged or is no database; the file is left as it is then. Where the disk is full or may not be written to it fails as
// Unwritable says.
func Open(ctx context.Context, dir string) (*DB, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, unusable("The data directory "+dir+" cannot be made", err)
	}
	path, err := filepath.Abs(filepath.Join(dir, FileName))
	if err != nil {
		return nil, fmt.Errorf("find the data directory: %w", err)
	}
	if err := makePrivate(path); err != nil {
		return nil, err
	}
	done, err := alone(filepath.Dir(path))
	if err != nil {
		return nil, unusable("The data directory "+dir+" cannot be opened", err)
	}
	defer done()
	conn, err := sql.Open("sqlite3", dsn(path))
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	db := &DB{DB: conn, Path: path}
	if err := db.prepare(ctx); err != nil {
		conn.Close()
		return nil, explain(path, err)
	}
	return db, nil
}

// alone waits until no other process opens the database in a directory: of two that make it at once, one would find it locked
// or half made. Where there are no locks, as on some network drives, it does not wait.
func alone(dir string) (done func() error, err error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	for err = syscall.EINTR; errors.Is(err, syscall.EINTR); {
		err = syscall.Flock(int(d.Fd()), syscall.LOCK_EX)
	}
	return d.Close, nil // which lets go of the lock
}

// makePrivate sees to it that the file exists and that only its owner may read it. SQLite gives the files that it puts
// beside it the same permissions.
func makePrivate(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if errors.Is(err, fs.ErrPermission) {
		return centram.Errorf(centram.Forbidden, "The database %s may not be opened: %w", path, err).
			WithHint("Make the file yours, or start with another data directory.")
	}
	if err != nil {
		return unusable("The database "+path+" cannot be opened", err)
	}
	defer f.Close()
	if err := f.Chmod(0o600); err != nil {
		return fmt.Errorf("protect %s: %w", path, err)
	}
	return nil
}

// dsn holds every pragma, because one that is executed reaches a single connection of the pool.
func dsn(path string) string {
	pragmas := url.Values{
		// Never made here: a connection that is opened after the file has gone would else go on with an empty one.
		"mode":          {"rw"},
		"_journal_mode": {"WAL"},
		"_synchronous":  {"FULL"},
		"_foreign_keys": {"on"},
		"_busy_timeout": {"5000"},
		// A transaction that reads first and writes later would otherwise fail when another wrote in between.
		"_txlock": {"immediate"},
	}
	return (&url.URL{Scheme: "file", Path: path, RawQuery: pragmas.Encode()}).String()
}

func (db *DB) prepare(ctx context.Context) error {
	var verdict string
	if err := db.QueryRowContext(ctx, `PRAGMA quick_check(1)`).Scan(&verdict); err != nil {
		return fmt.Errorf("check: %w", err)
	}
	if verdict != "ok" {
		return &damage{verdict}
	}
	return db.migrate(ctx)
}

// damage is what SQLite found wrong inside a file.
type damage struct{ verdict string }

func (d *damage) Error() string { return d.verdict }

// explain turns what SQLite says of a damaged file into what a person can act on.
func explain(path string, err error) error {
	damaged, isDamage := errors.AsType[*damage](err)
	if isDamage {
		return broken(path, damaged)
	}
	if e, ok := errors.AsType[sqlite3.Error](err); ok && (e.Code == sqlite3.ErrNotADB || e.Code == sqlite3.ErrCorrupt) {
		return broken(path, err)
	}
	if _, ok := errors.AsType[*centram.Error](err); ok {
		return err
	}
	return unusable("The database "+path+" cannot be opened", err)
}

// unusable says what cannot be done for the disk's sake, and what to do about that.
func unusable(what string, err error) error {
	e := centram.Errorf(centram.Forbidden, "%s: %w", what, err).
		WithHint("Make it yours, or choose another data directory with: centram config set data PATH")
	if u := Unwritable(err); u != nil {
		e.Code, e.Hint = u.Code, u.Hint
	}
	return e
}

func broken(path string, err error) error {
	return centram.Errorf(centram.Invalid, "The database %s is damaged: %w", path, err).
		WithHint("Nothing was deleted. Put a backup in its place, or move it away together with %[1]s-wal and %[1]s-shm "+
			"to begin with an empty one; \"sqlite3 %[1]s .recover\" may save what is in it.", path)
}

// Tx runs work in a transaction, which is committed if work returns nil.
func Tx(ctx context.Context, db *sql.DB, work func(*sql.Tx) error) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	defer tx.Rollback() // after Commit it does nothing
	if err := work(tx); err != nil {
		return err
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	return nil
}
