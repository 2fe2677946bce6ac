package chats

import (
	"context"
	"database/sql"
	"errors"
	"strings"

	"github.com/centram/centram"
)

// Question is what a person says, and below which message. Parent is empty for the first message of a conversation;
// an edited message has the parent of the original.
type Question struct {
	Parent  string
	Content string
	Model   string // that will answer
}

// Ask adds a person's message and the answer that is about to be generated, and shows the chat down to it. A chat
// without a title takes one from the message. It fails with centram.NotFound, and with centram.Invalid if the parent is
// not an answer of this chat, and with centram.Conflict if the parent is still being written.
func (s *Store) Ask(ctx context.Context, chat string, q Question) (user, answer Message, err error) {
	err = s.tx(ctx, "add a message", func(tx *sql.Tx) error {
		c, err := findChat(ctx, tx, chat)
		if err != nil {
			return err
		}
		if err := checkParent(ctx, tx, chat, q.Parent); err != nil {
			return err
		}
		user = Message{Parent: q.Parent, Role: User, Content: clean(q.Content), State: Done}
		if err := s.insert(ctx, tx, chat, &user); err != nil {
			return err
		}
		if err := indexMessage(ctx, tx, chat, user.ID, user.Content); err != nil {
			return err
		}
		if c.Title == "" {
			c.Title = titleFrom(user.Content)
			if err := indexTitle(ctx, tx, chat, c.Title); err != nil {
				return err
			}
		}
		answer, err = s.insertAnswer(ctx, tx, c, user.ID, q.Model)
		return err
	})
	return user, answer, err
}

// Regenerate adds a sibling of an answer, which is about to be generated, and shows the chat down to it.
func (s *Store) Regenerate(ctx context.Context, chat, id, model string) (answer Message, err error) {
	err = s.tx(ctx, "answer again", func(tx *sql.Tx) error {
		c, err := findChat(ctx, tx, chat)
		if err != nil {
			return err
		}
		old, err := findAnswer(ctx, tx, chat, id)
		if err != nil {
			return err
		}
		answer, err = s.insertAnswer(ctx, tx, c, old.Parent, model)
		return err
	})
	return answer, err
}

// Continue makes an answer generating again. It fails with centram.Conflict if it is generating, or if messages follow
// it, whose context would change.
func (s *Store) Continue(ctx context.Context, chat, id, model string) (answer Message, err error) {
	err = s.tx(ctx, "continue the answer", func(tx *sql.Tx) error {
		c, err := findChat(ctx, tx, chat)
		if err != nil {
			return err
		}
		if answer, err = findAnswer(ctx, tx, chat, id); err != nil {
			return err
		}
		if err := checkContinue(ctx, tx, answer); err != nil {
			return err
		}
		answer.State, answer.Model, answer.Error, answer.Stats = Generating, model, nil, nil
		if err := updateMessage(ctx, tx, answer); err != nil {
			return err
		}
		return s.show(ctx, tx, c, id)
	})
	return answer, err
}

func checkContinue(ctx context.Context, tx *sql.Tx, answer Message) error {
	if answer.State == Generating {
		return centram.Errorf(centram.Conflict, "This answer is still being written.")
	}
	var followed bool
	err := tx.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM messages WHERE parent = ?)`, answer.ID).Scan(&followed)
	if err != nil {
		return err
	}
	if followed {
		return centram.Errorf(centram.Conflict, "Messages follow this answer, so it cannot be continued.").
			WithHint("Have it written again, which begins a new branch.")
	}
	return nil
}

// Path returns the messages from the first of its branch down to id. It fails with centram.NotFound.
func (s *Store) Path(ctx context.Context, chat, id string) ([]Message, error) {
	messages, err := scanMessages(s.db.QueryContext(ctx, `
		WITH RECURSIVE up (id, parent) AS (
			SELECT id, parent FROM messages WHERE chat = ? AND id = ?
			UNION ALL
			SELECT m.id, m.parent FROM messages m JOIN up ON m.id = up.parent
		)
		SELECT `+messageColumns+` FROM messages WHERE id IN (SELECT id FROM up) ORDER BY seq`, chat, id))
	if err == nil && len(messages) == 0 {
		err = noMessage(id)
	}
	return messages, wrap("read the branch", err)
}

// Message returns one message. It fails with centram.NotFound.
func (s *Store) Message(ctx context.Context, chat, id string) (Message, error) {
	m, err := findMessage(ctx, s.db, chat, id)
	return m, wrap("read the message", err)
}

// checkParent sees to it that users and assistants alternate.
func checkParent(ctx context.Context, tx *sql.Tx, chat, parent string) error {
	if parent == "" {
		return nil
	}
	m, err := findMessage(ctx, tx, chat, parent)
	if centram.CodeOf(err) == centram.NotFound || err == nil && m.Role != Assistant {
		return centram.Errorf(centram.Invalid, "The parent of a message must be an answer in the same chat, or empty.")
	}
	if err != nil {
		return err
	}
	if m.State == Generating {
		return centram.Errorf(centram.Conflict, "The answer before this message is still being written.").
			WithHint("Wait until it is done, or stop it.")
	}
	return nil
}

func (s *Store) insertAnswer(ctx context.Context, tx *sql.Tx, c Chat, parent, model string) (Message, error) {
	m := Message{Parent: parent, Role: Assistant, State: Generating, Model: model}
	if err := s.insert(ctx, tx, c.ID, &m); err != nil {
		return Message{}, err
	}
	return m, s.show(ctx, tx, c, m.ID)
}

// insert adds m and gives it its id and time.
func (s *Store) insert(ctx context.Context, tx *sql.Tx, chat string, m *Message) error {
	id, err := s.ids.next()
	if err != nil {
		return err
	}
	m.ID, m.CreatedAt = id, fromMillis(s.now().UnixMilli())
	_, err = tx.ExecContext(ctx, `
		INSERT INTO messages (id, chat, parent, role, content, state, model, error, stats, created_at)
		VALUES (?, ?, NULLIF(?, ''), ?, ?, ?, ?, '', '', ?)`,
		m.ID, chat, m.Parent, m.Role, m.Content, m.State, m.Model, m.CreatedAt.UnixMilli())
	return err
}

// show makes id the head of c and c the newest chat.
func (s *Store) show(ctx context.Context, tx *sql.Tx, c Chat, id string) error {
	c.Head, c.UpdatedAt = id, s.now()
	return saveChat(ctx, tx, c)
}

const messageColumns = `id, COALESCE(parent, ''), role, content, state, model, error, stats, created_at`

func findMessages(ctx context.Context, q querier, chat string) ([]Message, error) {
	return scanMessages(q.QueryContext(ctx,
		`SELECT `+messageColumns+` FROM messages WHERE chat = ? ORDER BY seq`, chat))
}

func findMessage(ctx context.Context, q querier, chat, id string) (Message, error) {
	m, err := scanMessage(q.QueryRowContext(ctx,
		`SELECT `+messageColumns+` FROM messages WHERE chat = ? AND id = ?`, chat, id))
	if errors.Is(err, sql.ErrNoRows) {
		return Message{}, noMessage(id)
	}
	return m, err
}

func findAnswer(ctx context.Context, tx *sql.Tx, chat, id string) (Message, error) {
	m, err := findMessage(ctx, tx, chat, id)
	if err == nil && m.Role != Assistant {
		return Message{}, centram.Errorf(centram.Invalid, "Message %q is not an answer.", id)
	}
	return m, err
}

func scanMessages(rows *sql.Rows, err error) ([]Message, error) {
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	messages := []Message{}
	for rows.Next() {
		m, err := scanMessage(rows)
		if err != nil {
			return nil, err
		}
		messages = append(messages, m)
	}
	return messages, rows.Err()
}

func scanMessage(row interface{ Scan(...any) error }) (Message, error) {
	var m Message
	var problem, stats string
	var created int64
	err := row.Scan(&m.ID, &m.Parent, &m.Role, &m.Content, &m.State, &m.Model, &problem, &stats, &created)
	if err != nil {
		return Message{}, err
	}
	m.CreatedAt = fromMillis(created)
	return m, errors.Join(fromJSON(problem, &m.Error), fromJSON(stats, &m.Stats))
}

func noMessage(id string) error {
	return centram.Errorf(centram.NotFound, "There is no message %q in this chat.", id)
}

// titleFrom takes the beginning of a message, whole words if it can.
func titleFrom(content string) string {
	const limit = 60 // characters
	text := []rune(strings.Join(strings.Fields(content), " "))
	if len(text) <= limit {
		return string(text)
	}
	short := string(text[:limit])
	if i := strings.LastIndexByte(short, ' '); i > len(short)/2 {
		short = short[:i]
	}
	return short + "…"
}
