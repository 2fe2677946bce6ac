package chats

import (
	"context"
	"database/sql"
	"errors"
)

// Query asks for a part of the list of conversations.
type Query struct {
	Text   string // words to be found in the title or in one message; empty means all chats
	Limit  int    // at most so many. Zero means 50
	Before string // the id of the last chat of the part before; empty means from the newest
}

// List returns conversations, those first to which something was added last, and whether there are more. It fails with
// centram.NotFound if the chat Before is gone.
func (s *Store) List(ctx context.Context, q Query) (found []Summary, more bool, err error) {
	if q.Limit <= 0 {
		q.Limit = 50
	}
	words := match(q.Text)
	if words == "" && q.Text != "" {
		return []Summary{}, false, nil
	}
	after := Chat{Summary: Summary{UpdatedAt: fromMillis(1 << 60)}}
	if q.Before != "" {
		if after, err = findChat(ctx, s.db, q.Before); err != nil {
			return nil, false, wrap("list the chats", err)
		}
	}
	found, err = findSummaries(ctx, s.db, words, after, q.Limit+1)
	if err != nil {
		return nil, false, wrap("list the chats", err)
	}
	if more = len(found) > q.Limit; more {
		found = found[:q.Limit]
	}
	if words != "" {
		err = addSnippets(ctx, s.db, words, found)
	}
	return found, more, wrap("search the chats", err)
}

func findSummaries(ctx context.Context, q querier, words string, after Chat, limit int) ([]Summary, error) {
	rows, err := q.QueryContext(ctx, `
		SELECT id, title, model, created_at, updated_at FROM chats
		WHERE (updated_at, id) < (?1, ?2)
		AND (?3 = '' OR id IN (SELECT d.chat FROM search JOIN documents d ON d.id = search.docid WHERE search MATCH ?3))
		ORDER BY updated_at DESC, id DESC LIMIT ?4`, after.UpdatedAt.UnixMilli(), after.ID, words, limit)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	found := []Summary{}
	for rows.Next() {
		var c Summary
		var created, updated int64
		if err := rows.Scan(&c.ID, &c.Title, &c.Model, &created, &updated); err != nil {
			return nil, err
		}
		c.CreatedAt, c.UpdatedAt = fromMillis(created), fromMillis(updated)
		found = append(found, c)
	}
	return found, rows.Err()
}

// addSnippets shows of each chat the newest hit in a message, or else the one in the title. A chat that was deleted since
// it was found has none.
func addSnippets(ctx context.Context, q querier, words string, found []Summary) error {
	for i := range found {
		snippet, err := findSnippet(ctx, q, words, found[i].ID)
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		found[i].Snippet = unsegment(snippet)
	}
	return nil
}

func findSnippet(ctx context.Context, q querier, words, chat string) (snippet string, err error) {
	var doc int64
	err = q.QueryRowContext(ctx, `
		SELECT d.id FROM documents d WHERE d.chat = ? AND d.id IN (SELECT docid FROM search WHERE search MATCH ?)
		ORDER BY d.message IS NULL, d.id DESC LIMIT 1`, chat, words).Scan(&doc)
	if err != nil {
		return "", err
	}
	// A range and not an equality, because FTS4 then reads this document only.
	err = q.QueryRowContext(ctx, `
		SELECT snippet(search, ?, ?, '…', 0, 24) FROM search WHERE search MATCH ? AND docid BETWEEN ? AND ?`,
		string(hitBegin), string(hitEnd), words, doc, doc).Scan(&snippet)
	return snippet, err
}

// indexTitle makes a chat findable by its title, and no longer by the one before.
func indexTitle(ctx context.Context, tx *sql.Tx, chat, title string) error {
	if _, err := tx.ExecContext(ctx, `DELETE FROM documents WHERE chat = ? AND message IS NULL`, chat); err != nil {
		return err
	}
	return index(ctx, tx, chat, "", title)
}

// indexMessage makes a chat findable by the text of a message.
func indexMessage(ctx context.Context, tx *sql.Tx, chat, message, text string) error {
	if _, err := tx.ExecContext(ctx, `DELETE FROM documents WHERE message = ?`, message); err != nil {
		return err
	}
	return index(ctx, tx, chat, message, text)
}

func index(ctx context.Context, tx *sql.Tx, chat, message, text string) error {
	if text == "" {
		return nil
	}
	result, err := tx.ExecContext(ctx, `INSERT INTO documents (chat, message) VALUES (?, NULLIF(?, ''))`, chat, message)
	if err != nil {
		return err
	}
	id, err := result.LastInsertId()
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, `INSERT INTO search (docid, body) VALUES (?, ?)`, id, segment(text))
	return err
}
