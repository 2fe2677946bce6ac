-- LoRA adapters, each of one model of the list. As with models, a row says where a file is and what it was when it was
-- last looked at. An adapter outlives its model's row: it is of use again when a model of that name is back.
--
-- base       the model's name in `models`, lower case
-- name       lower case, no colon: the two are called base:name
-- path       absolute. One file may be in several rows
-- file       JSON: {"path", "size", "mtime"}, mtime in nanoseconds since 1970
-- base_files the model's files when it was found that the adapter fits: if they are others, it is checked again
-- title      what the file calls itself
-- alpha      0 means the rank of each matrix
-- digest     SHA-256 of the file in hex
-- about      JSON object: how the adapter came to be, as whoever added it says
-- state      'ready': checked, and fits the model. 'failed': looked at and refused, why is in `error` (JSON: code, message,
--            hint). That its file or its model is missing is no state of the row: it is seen when the row is read.

-- +goose Up
CREATE TABLE adapters (
	base       TEXT NOT NULL COLLATE NOCASE CHECK (base <> ''),
	name       TEXT NOT NULL COLLATE NOCASE CHECK (name <> '' AND instr(name, ':') = 0),
	path       TEXT NOT NULL,
	file       TEXT NOT NULL CHECK (json_valid(file)),
	base_files TEXT NOT NULL CHECK (json_valid(base_files)),
	title      TEXT NOT NULL,
	size_bytes INTEGER NOT NULL,
	digest     TEXT NOT NULL,
	rank       INTEGER NOT NULL,
	alpha      REAL NOT NULL,
	matrices   INTEGER NOT NULL,
	parameters INTEGER NOT NULL,
	about      TEXT NOT NULL CHECK (json_valid(about)),
	state      TEXT NOT NULL CHECK (state IN ('ready', 'failed')),
	error      TEXT NOT NULL DEFAULT '' CHECK ((state = 'failed') = (error <> '')),
	added_at   INTEGER NOT NULL, -- milliseconds since 1970
	PRIMARY KEY (base, name)
) STRICT, WITHOUT ROWID;
