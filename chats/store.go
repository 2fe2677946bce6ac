package chats

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/centram/centram"
	"github.com/centram/centram/store"
)

// Create makes an empty conversation.
func (s *Store) Create(ctx context.Context, d Draft) (Chat, error) {
	id, err := s.ids.next()
	if err != nil {
		return Chat{}, err
	}
	var chat Chat
	err = s.tx(ctx, "create a chat", func(tx *sql.Tx) error {
		now := s.now().UnixMilli()
		sampling, err := toJSON(d.Sampling)
		if err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `
			INSERT INTO chats (id, title, model, system, sampling, created_at, updated_at)
			VALUES (?, ?, ?, ?, ?, ?, ?)`, id, clean(d.Title), d.Model, clean(d.System), sampling, now, now)
		if err != nil {
			return err
		}
		if err := indexTitle(ctx, tx, id, clean(d.Title)); err != nil {
			return err
		}
		chat, err = findChat(ctx, tx, id)
		return err
	})
	return chat, err
}

// Outline returns a conversation without its messages. It fails with centram.NotFound.
func (s *Store) Outline(ctx context.Context, id string) (Chat, error) {
	chat, err := findChat(ctx, s.db, id)
	return chat, wrap("read the chat", err)
}

// Get returns a conversation with all its messages. It fails with centram.NotFound.
func (s *Store) Get(ctx context.Context, id string) (Chat, error) {
	chat, err := s.Outline(ctx, id)
	if err != nil {
		return Chat{}, err
	}
	chat.Messages, err = findMessages(ctx, s.db, id)
	return chat, wrap("read the chat", err)
}

// Patch changes a conversation and returns it without its messages. It fails with centram.NotFound, and with
// centram.Invalid if the new head is no message of the conversation.
func (s *Store) Patch(ctx context.Context, id string, p Patch) (Chat, error) {
	var chat Chat
	err := s.tx(ctx, "change the chat", func(tx *sql.Tx) error {
		var err error
		if chat, err = findChat(ctx, tx, id); err != nil {
			return err
		}
		if err := apply(ctx, tx, &chat, p); err != nil {
			return err
		}
		return saveChat(ctx, tx, chat)
	})
	return chat, err
}

func apply(ctx context.Context, tx *sql.Tx, chat *Chat, p Patch) error {
	if p.Title != nil {
		chat.Title = clean(*p.Title)
		if err := indexTitle(ctx, tx, chat.ID, chat.Title); err != nil {
			return err
		}
	}
	if p.Model != nil {
		chat.Model = *p.Model
	}
	if p.System != nil {
		chat.System = clean(*p.System)
	}
	if p.Sampling != nil {
		chat.Sampling = *p.Sampling
	}
	if p.Head != nil {
		_, err := findMessage(ctx, tx, chat.ID, *p.Head)
		if centram.CodeOf(err) == centram.NotFound {
			return centram.Errorf(centram.Invalid, "The head must be a message of this chat.")
		}
		if err != nil {
			return err
		}
		chat.Head = *p.Head
	}
	return nil
}

// Delete removes a conversation for good. It fails with centram.NotFound.
func (s *Store) Delete(ctx context.Context, id string) error {
	return s.tx(ctx, "delete the chat", func(tx *sql.Tx) error {
		result, err := tx.ExecContext(ctx, `DELETE FROM chats WHERE id = ?`, id)
		if err != nil {
			return err
		}
		if n, err := result.RowsAffected(); err != nil || n > 0 {
			return err
		}
		return noChat(id)
	})
}

// querier is what reading needs; a database and a transaction both have it.
type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

func findChat(ctx context.Context, q querier, id string) (Chat, error) {
	c := Chat{Summary: Summary{ID: id}}
	var sampling string
	var head sql.NullString
	var created, updated int64
	err := q.QueryRowContext(ctx, `
		SELECT title, model, system, sampling, head, created_at, updated_at FROM chats WHERE id = ?`, id).
		Scan(&c.Title, &c.Model, &c.System, &sampling, &head, &created, &updated)
	if errors.Is(err, sql.ErrNoRows) {
		return Chat{}, noChat(id)
	}
	if err != nil {
		return Chat{}, err
	}
	c.Head, c.CreatedAt, c.UpdatedAt = head.String, fromMillis(created), fromMillis(updated)
	return c, fromJSON(sampling, &c.Sampling)
}

func saveChat(ctx context.Context, tx *sql.Tx, c Chat) error {
	sampling, err := toJSON(c.Sampling)
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, `
		UPDATE chats SET title = ?, model = ?, system = ?, sampling = ?, head = NULLIF(?, ''), updated_at = ?
		WHERE id = ?`, c.Title, c.Model, c.System, sampling, c.Head, c.UpdatedAt.UnixMilli(), c.ID)
	return err
}

// tx runs work in a transaction and says what was being done if it fails.
func (s *Store) tx(ctx context.Context, what string, work func(*sql.Tx) error) error {
	return wrap(what, store.Tx(ctx, s.db, work))
}

// wrap leaves alone what a person is meant to read.
func wrap(what string, err error) error {
	if err == nil || centram.CodeOf(err) != centram.Internal {
		return err
	}
	return fmt.Errorf("%s: %w", what, err)
}

func noChat(id string) error {
	return centram.Errorf(centram.NotFound, "There is no chat %q.", id)
}

// clean makes text that can be stored and counted: valid UTF-8 without NUL.
func clean(text string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(text, "\uFFFD"), "\x00", "")
}

func fromMillis(ms int64) time.Time { return time.UnixMilli(ms).UTC() }

func toJSON(v any) (string, error) {
	text, err := json.Marshal(v)
	return string(text), err
}

// fromJSON reads text into v, and leaves it alone if text is empty.
func fromJSON(text string, v any) error {
	if text == "" {
		return nil
	}
	return json.Unmarshal([]byte(text), v)
}
