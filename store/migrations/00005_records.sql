-- Signed records of this node and of others, as they came. They are passed on to whoever lacks them.
--
-- id       SHA-256 that names the record; see wire.Record.ID
-- type     number in the table of messages
-- slot     of an author's records in one slot, only the one with the highest seq is here; '' if it has no slot
-- seq      as a signed number
-- expires  milliseconds since 1970, 0 for never; a record that has expired is dropped
-- record   its bytes: type, author, signature, body

-- +goose Up
CREATE TABLE records (
	id       BLOB PRIMARY KEY CHECK (length(id) = 32),
	type     INTEGER NOT NULL,
	author   BLOB NOT NULL CHECK (length(author) = 32),
	slot     TEXT NOT NULL,
	seq      INTEGER NOT NULL,
	expires  INTEGER NOT NULL,
	received INTEGER NOT NULL, -- milliseconds since 1970
	record   BLOB NOT NULL
) STRICT, WITHOUT ROWID;
