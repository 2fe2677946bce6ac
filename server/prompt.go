package server

import (
	"cmp"
	"context"
	"errors"

	"github.com/centram/centram"
	"github.com/centram/centram/chats"
	"github.com/centram/centram/engine"
	"github.com/centram/centram/models"
)

// modelFor is the model that answers in a chat: its own, the default one, or the only one there is.
func (s *Server) modelFor(ctx context.Context, chat string) (models.Model, error) {
	c, err := s.Chats.Outline(ctx, chat)
	if err != nil {
		return models.Model{}, err
	}
	p, err := loadPreferences(ctx, s.Settings)
	if err != nil {
		return models.Model{}, err
	}
	if name := cmp.Or(c.Model, p.DefaultModel); name != "" {
		return s.Models.Resolve(ctx, name)
	}
	name, err := s.Models.Only(ctx)
	if e, ok := errors.AsType[*centram.Error](err); ok && e.Code == centram.NotFound {
		wrong := *e // what the address names is there
		wrong.Code = centram.Invalid
		return models.Model{}, &wrong
	}
	return models.Model{Name: name}, err
}

// request puts together what the engine needs: the branch of the chat that the answer belongs to, as it is now.
func (a *answers) request(ctx context.Context, ans *answer) (engine.Request, error) {
	chat, err := a.Chats.Outline(ctx, ans.chat)
	if err != nil {
		return engine.Request{}, err
	}
	p, err := loadPreferences(ctx, a.Settings)
	if err != nil {
		return engine.Request{}, err
	}
	branch, err := a.Chats.Path(ctx, ans.chat, ans.start.ID)
	if err != nil {
		return engine.Request{}, err
	}
	request := engine.Request{Model: ans.start.Model, Chat: conversation(cmp.Or(chat.System, p.System), branch), TopLogprobs: -1}
	request.Sampling, request.MaxTokens = sampling(chat.Sampling.Over(p.Sampling))
	return request, nil
}

// conversation ends with the answer to be continued, or with the question if the answer is still empty.
func conversation(system string, branch []chats.Message) *engine.Chat {
	c := &engine.Chat{}
	if system != "" {
		c.Messages = append(c.Messages, engine.Message{Role: "system", Content: system})
	}
	last := len(branch) - 1
	c.Continue = branch[last].Content != ""
	if !c.Continue {
		branch = branch[:last]
	}
	for _, m := range branch {
		c.Messages = append(c.Messages, engine.Message{Role: string(m.Role), Content: m.Content})
	}
	return c
}

func sampling(chosen chats.Sampling) (engine.Sampling, int) {
	s, maxTokens := engine.DefaultSampling(), 0
	set(&s.Temperature, chosen.Temperature)
	set(&s.TopK, chosen.TopK)
	set(&s.TopP, chosen.TopP)
	set(&s.MinP, chosen.MinP)
	set(&s.RepeatPenalty, chosen.RepeatPenalty)
	set(&maxTokens, chosen.MaxTokens)
	s.Seed = chosen.Seed
	return s, maxTokens
}

func set[T any](field *T, chosen *T) {
	if chosen != nil {
		*field = *chosen
	}
}
