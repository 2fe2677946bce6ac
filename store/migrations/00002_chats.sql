-- Conversations. The messages of one form a forest: a message points at its parent, the first ones at none, and a
-- message that is edited or answered again gets a sibling. Users and assistants alternate along every path.
--
-- chats.head          the message down to which the conversation is shown; NULL while there is none.
-- chats.updated_at    when a message was last added or finished. Lists are sorted by it.
-- messages.seq        the order in which messages were added; a parent's is smaller than its children's.
-- messages.state      a user's message is 'done'. An answer begins as 'generating' and ends as one of the others, once;
--                     continuing it makes it 'generating' again. No message is 'generating' while no daemon runs: one
--                     that finds such a message at its start makes it 'interrupted'.
-- messages.content    grows while the message is generating.
-- sampling, stats and error are JSON, or '' for none. Times are milliseconds since 1970.
--
-- `documents` and `search` are the full-text index. A document is a chat's title (message NULL) or a message's text, and
-- `search` holds its text at docid = documents.id, written the way package chats segments it. Messages enter it when
-- they are no longer generating. A document takes its text along when it goes, and goes with what it is about.

-- +goose Up
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

-- FTS4 and not FTS5, because the driver brings it without a build tag.
CREATE VIRTUAL TABLE search USING fts4 (body, tokenize=unicode61 "remove_diacritics=2");

-- +goose StatementBegin
CREATE TRIGGER documents_gone AFTER DELETE ON documents
BEGIN
	DELETE FROM search WHERE docid = old.id;
END;
-- +goose StatementEnd
