package server

import (
	"context"

	"github.com/centram/centram/chats"
)

// Chats keeps conversations. Methods that take an id fail with centram.NotFound.
type Chats interface {
	List(context.Context, chats.Query) (found []chats.Summary, more bool, err error)
	Create(context.Context, chats.Draft) (chats.Chat, error)
	Get(ctx context.Context, id string) (chats.Chat, error)
	Outline(ctx context.Context, id string) (chats.Chat, error) // Get without the messages
	Patch(ctx context.Context, id string, p chats.Patch) (chats.Chat, error)
	Delete(ctx context.Context, id string) error

	Message(ctx context.Context, chat, id string) (chats.Message, error)
	Path(ctx context.Context, chat, id string) ([]chats.Message, error)
	Ask(ctx context.Context, chat string, q chats.Question) (user, answer chats.Message, err error)
	Regenerate(ctx context.Context, chat, id, model string) (chats.Message, error)
	Continue(ctx context.Context, chat, id, model string) (chats.Message, error)

	SetText(ctx context.Context, id, text string) error
	Finish(ctx context.Context, chat, id string, o chats.Outcome) (chats.Message, error)
	Interrupt(context.Context) (int, error)
}

// ChatID, MessageID and ModelName are the parameters in paths. They are exported because huma looks into no others.
type ChatID struct {
	Chat string `path:"id" doc:"Of the chat."`
}

// MessageID names a message of a chat.
type MessageID struct {
	ChatID
	Message string `path:"mid" doc:"Of the message."`
}

type messageAction struct {
	MessageID
	Body *struct{}
}

type chatBody struct{ Body chats.Chat }

type messageBody struct{ Body chats.Message }

type chatQuery struct {
	Text   string `query:"q" doc:"Words to be found in the title or in one message; the last may be the beginning of one."`
	Limit  int    `query:"limit" minimum:"1" maximum:"200" default:"50"`
	Before string `query:"before" doc:"The id of the last chat of the part before."`
}

type chatList struct {
	Body struct {
		Chats []chats.Summary `json:"chats"`
		More  bool            `json:"more"`
	}
}

func (s *Server) listChats(ctx context.Context, in *chatQuery) (*chatList, error) {
	found, more, err := s.Chats.List(ctx, chats.Query{Text: in.Text, Limit: in.Limit, Before: in.Before})
	if err != nil {
		return nil, err
	}
	out := &chatList{}
	out.Body.Chats, out.Body.More = found, more
	return out, nil
}

type chatDraft struct {
	Body struct {
		Title    string         `json:"title,omitempty" maxLength:"500" doc:"Empty means one after the first message."`
		Model    string         `json:"model,omitempty"`
		System   string         `json:"system,omitempty"`
		Sampling chats.Sampling `json:"sampling,omitempty"`
	}
}

func (s *Server) createChat(ctx context.Context, in *chatDraft) (*chatBody, error) {
	b := in.Body
	chat, err := s.Chats.Create(ctx, chats.Draft{Title: b.Title, Model: b.Model, System: b.System, Sampling: b.Sampling})
	if err != nil {
		return nil, err
	}
	s.Events.publish("chat", ChatEvent{chat.ID, "created"})
	return &chatBody{chat}, nil
}

func (s *Server) getChat(ctx context.Context, in *ChatID) (*chatBody, error) {
	chat, err := s.Chats.Get(ctx, in.Chat)
	if err != nil {
		return nil, err
	}
	for i, m := range chat.Messages {
		if m.State == chats.Generating {
			chat.Messages[i] = s.answers.current(m)
		}
	}
	return &chatBody{chat}, nil
}

type chatPatch struct {
	ChatID
	Body struct {
		Title    *string         `json:"title,omitempty" maxLength:"500"`
		Model    *string         `json:"model,omitempty"`
		System   *string         `json:"system,omitempty"`
		Sampling *chats.Sampling `json:"sampling,omitempty"`
		Head     *string         `json:"head,omitempty"`
	}
}

func (s *Server) patchChat(ctx context.Context, in *chatPatch) (*chatBody, error) {
	b := in.Body
	chat, err := s.Chats.Patch(ctx, in.Chat, chats.Patch{
		Title: b.Title, Model: b.Model, System: b.System, Sampling: b.Sampling, Head: b.Head,
	})
	if err != nil {
		return nil, err
	}
	s.Events.publish("chat", ChatEvent{chat.ID, "updated"})
	return &chatBody{chat}, nil
}

func (s *Server) deleteChat(ctx context.Context, in *ChatID) (*struct{}, error) {
	if err := s.answers.stopAll(ctx, in.Chat); err != nil {
		return nil, err
	}
	if err := s.Chats.Delete(ctx, in.Chat); err != nil {
		return nil, err
	}
	s.Events.publish("chat", ChatEvent{in.Chat, "deleted"})
	return nil, nil
}

type question struct {
	ChatID
	Body struct {
		Parent  string `json:"parent,omitempty" doc:"The answer before it. Empty for the first message."`
		Content string `json:"content" minLength:"1"`
	}
}

type exchange struct {
	Body struct {
		User      chats.Message `json:"user"`
		Assistant chats.Message `json:"assistant"`
	}
}

func (s *Server) ask(ctx context.Context, in *question) (*exchange, error) {
	model, err := s.modelFor(ctx, in.Chat)
	if err != nil {
		return nil, err
	}
	out := &exchange{}
	err = s.answers.begin(in.Chat, model.Alone(), func() (answer chats.Message, err error) {
		out.Body.User, answer, err = s.Chats.Ask(ctx, in.Chat, chats.Question{
			Parent: in.Body.Parent, Content: in.Body.Content, Model: model.Name,
		})
		out.Body.Assistant = answer
		return answer, err
	})
	if err != nil {
		return nil, err
	}
	s.Events.publish("chat", ChatEvent{in.Chat, "updated"})
	return out, nil
}

func (s *Server) regenerate(ctx context.Context, in *messageAction) (*messageBody, error) {
	return s.answerAgain(ctx, in, s.Chats.Regenerate)
}

func (s *Server) continueAnswer(ctx context.Context, in *messageAction) (*messageBody, error) {
	return s.answerAgain(ctx, in, s.Chats.Continue)
}

func (s *Server) answerAgain(ctx context.Context, in *messageAction,
	prepare func(ctx context.Context, chat, id, model string) (chats.Message, error),
) (*messageBody, error) {
	model, err := s.modelFor(ctx, in.Chat)
	if err != nil {
		return nil, err
	}
	out := &messageBody{}
	err = s.answers.begin(in.Chat, model.Alone(), func() (answer chats.Message, err error) {
		out.Body, err = prepare(ctx, in.Chat, in.Message, model.Name)
		return out.Body, err
	})
	if err != nil {
		return nil, err
	}
	s.Events.publish("chat", ChatEvent{in.Chat, "updated"})
	return out, nil
}

func (s *Server) stopAnswer(ctx context.Context, in *messageAction) (*messageBody, error) {
	if err := s.answers.stop(ctx, in.Chat, in.Message); err != nil {
		return nil, err
	}
	m, err := s.Chats.Message(ctx, in.Chat, in.Message)
	return &messageBody{m}, err
}
