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

CREATE TABLE chats (
	id         TEXT PRIMARY KEY,
	title      TEXT NOT NULL,
	model      TEXT NOT NULL,
	system     TEXT NOT NULL,
	sampling   TEXT NOT NULL CHECK (sampling = '' OR json_valid(sampling)),
	head       TEXT REFERENCES messages (id) ON DELETE SET NULL DEFERRABLE INITIALLY DEFERRED,
	created_at INTEGER NOT NULL,
	updated_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX chats_newest ON chats (updated_at DESC, id DESC);

CREATE TABLE messages (
	seq        INTEGER PRIMARY KEY AUTOINCREMENT,
	id         TEXT NOT NULL UNIQUE,
	chat       TEXT NOT NULL REFERENCES chats (id) ON DELETE CASCADE,
	parent     TEXT REFERENCES messages (id) ON DELETE CASCADE,
	role       TEXT NOT NULL CHECK (role IN ('user', 'assistant')),
	content    TEXT NOT NULL,
	state      TEXT NOT NULL CHECK (state IN ('generating', 'done', 'stopped', 'failed', 'interrupted')),
	model      TEXT NOT NULL,
	error      TEXT NOT NULL CHECK (error = '' OR json_valid(error)),
	stats      TEXT NOT NULL CHECK (stats = '' OR json_valid(stats)),
	created_at INTEGER NOT NULL,
	CHECK (role = 'assistant' OR state = 'done')
) STRICT;

CREATE INDEX messages_of_chat ON messages (chat, seq);

CREATE INDEX messages_of_parent ON messages (parent);

CREATE INDEX messages_generating ON messages (state) WHERE state = 'generating';

CREATE TABLE documents (
	id      INTEGER PRIMARY KEY AUTOINCREMENT,
	chat    TEXT NOT NULL REFERENCES chats (id) ON DELETE CASCADE,
	message TEXT UNIQUE REFERENCES messages (id) ON DELETE CASCADE
) STRICT;

CREATE UNIQUE INDEX documents_titles ON documents (chat) WHERE message IS NULL;

CREATE INDEX documents_of_chat ON documents (chat);

CREATE VIRTUAL TABLE search USING fts4 (body, tokenize=unicode61 "remove_diacritics=2");

CREATE TRIGGER documents_gone AFTER DELETE ON documents
BEGIN
	DELETE FROM search WHERE docid = old.id;
END;

CREATE TABLE settings (
	name  TEXT PRIMARY KEY,
	value TEXT NOT NULL CHECK (json_valid(value))
) STRICT, WITHOUT ROWID;

CREATE TABLE peers (
	id           BLOB PRIMARY KEY CHECK (length(id) = 32),
	name         TEXT NOT NULL,
	trust        INTEGER NOT NULL CHECK (trust BETWEEN 0 AND 2),
	addresses    TEXT NOT NULL CHECK (json_valid(addresses)),
	first_seen   INTEGER NOT NULL,
	last_seen    INTEGER NOT NULL,
	penalty      REAL NOT NULL,
	penalty_at   INTEGER NOT NULL,
	bans         INTEGER NOT NULL,
	banned_until INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE static_peers (
	address TEXT PRIMARY KEY,
	peer    BLOB CHECK (peer IS NULL OR length(peer) = 32)
) STRICT, WITHOUT ROWID;

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

