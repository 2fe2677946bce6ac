-- The models that this node may run. A row says where a file is and what it was when it was last looked at; the file
-- itself stays where its owner put it. So a row may be out of date, and is then brought up to date when it is read:
-- `files` holds the size and time of each file of the model, and a model whose files differ is checked again.
--
-- name   lower case, unique whatever the case, never empty. What people and programs call the model.
-- path   absolute; for a split model, its first part. One row a path.
-- files  JSON: [{"path", "size", "mtime"}], the parts in order, mtime in nanoseconds since 1970.
-- state  'ready': checked and sound. 'failed': looked at and refused, why is in `error` (JSON: code, message, hint).
--        A missing file is no state of the row: it is seen when the row is read.
-- digest SHA-256 of the file (of its parts one after the other) in hex, or '' while nobody has computed it.
--
-- `unlisted` holds files in the models folder whose model a person removed from the list but not from the disk. They
-- are passed over when the folder is scanned, unless they have changed since.

-- +goose Up
CREATE TABLE models (
	name          TEXT PRIMARY KEY COLLATE NOCASE CHECK (name <> ''),
	path          TEXT NOT NULL UNIQUE,
	files         TEXT NOT NULL CHECK (json_valid(files)),
	size_bytes    INTEGER NOT NULL,
	architecture  TEXT NOT NULL DEFAULT '',
	parameters    INTEGER NOT NULL DEFAULT 0,
	layers        INTEGER NOT NULL DEFAULT 0,
	embedding     INTEGER NOT NULL DEFAULT 0,
	context       INTEGER NOT NULL DEFAULT 0,
	quantization  TEXT NOT NULL DEFAULT '',
	chat_template INTEGER NOT NULL DEFAULT 0 CHECK (chat_template IN (0, 1)),
	template      TEXT NOT NULL DEFAULT '',
	license       TEXT NOT NULL DEFAULT '',
	kv_bytes      INTEGER NOT NULL DEFAULT 0,
	digest        TEXT NOT NULL DEFAULT '',
	state         TEXT NOT NULL CHECK (state IN ('ready', 'failed')),
	error         TEXT NOT NULL DEFAULT '' CHECK ((state = 'failed') = (error <> '')),
	imported_at   INTEGER NOT NULL -- milliseconds since 1970
) STRICT, WITHOUT ROWID;

CREATE TABLE unlisted (
	path  TEXT PRIMARY KEY,
	files TEXT NOT NULL CHECK (json_valid(files))
) STRICT, WITHOUT ROWID;
