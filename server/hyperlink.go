package server

import (
	"context"
	"time"

	"github.com/centram/centram"
)

// Hyperlink puts models together from several machines. Files are those of the list of models.
type Hyperlink interface {
	// State says what is known of other machines, and what is computed for whom now.
	State(context.Context) HyperlinkState
	// Plan says how the model in a file would be laid over machines now. It fails with centram.Unavailable, and says what is
	// missing, if they could not hold it.
	Plan(ctx context.Context, file string) (HyperlinkPlan, error)
	// Force has a model put together from several machines when it is loaded next, though it fits this one, or no longer. It
	// fails with centram.Unavailable, and says what is missing, if that could not be done now.
	Force(ctx context.Context, file string, on bool) error
}

// HyperlinkState is what this node knows of machines that compute for each other.
type HyperlinkState struct {
	Privacy string           `json:"privacy" enum:"trusted,any,local" doc:"Which machines may compute for this one: those it is paired with, any, or none."`
	Note    string           `json:"privacy_note" doc:"What that means, for people."`
	Sharing HyperlinkSharing `json:"sharing"`
	Offers  []HyperlinkOffer `json:"offers" doc:"Of other nodes that would compute."`
	Serving []HyperlinkSeat  `json:"serving" doc:"What this node computes for others."`
	Running []HyperlinkModel `json:"running" doc:"The models of this node that are put together from several machines."`
}

// HyperlinkSharing is what this node gives to the models of others.
type HyperlinkSharing struct {
	On       bool   `json:"on" doc:"It computes for others now."`
	Why      string `json:"why,omitempty" doc:"Why it does not."`
	Hint     string `json:"hint,omitempty" doc:"What to do about that."`
	Memory   int64  `json:"memory_bytes" doc:"That the models of others may take together."`
	Taken    int64  `json:"taken_bytes" doc:"That they have taken."`
	ReadRate int64  `json:"read_bytes_per_second" doc:"Of weights, at one token a step, as measured; 0 if it was not."`
	MulRate  int64  `json:"mul_adds_per_second" doc:"In a batch, as measured; 0 if it was not."`
}

// HyperlinkPeer is a machine that takes part. Its name is what it says of itself, and proves nothing.
type HyperlinkPeer struct {
	ID    string `json:"id"`
	Short string `json:"short"`
	Name  string `json:"name"`
	Here  bool   `json:"here" doc:"It is this one."`
}

// HyperlinkOffer is what another node offers to compute with.
type HyperlinkOffer struct {
	HyperlinkPeer
	Trust    string    `json:"trust" enum:"stranger,paired,own"`
	Memory   int64     `json:"memory_bytes"`
	ReadRate int64     `json:"read_bytes_per_second"`
	MulRate  int64     `json:"mul_adds_per_second"`
	Backend  string    `json:"backend" doc:"What computes, such as cpu or cuda."`
	Expires  time.Time `json:"expires_at"`
	Usable   bool      `json:"usable" doc:"It may be asked to compute."`
	Why      string    `json:"why,omitempty" doc:"Why it is not asked."`
}

// HyperlinkSeat is a range of layers that this node computes for another one.
type HyperlinkSeat struct {
	Peer   HyperlinkPeer `json:"peer" doc:"Whose model it is."`
	Model  string        `json:"model_hash"`
	First  int           `json:"first_layer"`
	Last   int           `json:"last_layer"`
	Memory int64         `json:"memory_bytes"`
	Tokens int64         `json:"tokens" doc:"That were computed."`
	Since  time.Time     `json:"since"`
	// Standby is true of layers that compute nothing yet.
	Standby bool `json:"standby" doc:"They are there to take another machine's place, should it be lost, and give way to layers that are needed."`
}

// HyperlinkStage is a range of layers on a machine.
type HyperlinkStage struct {
	Peer      HyperlinkPeer  `json:"peer"`
	First     int            `json:"first_layer"`
	Last      int            `json:"last_layer"`
	Memory    int64          `json:"memory_bytes"`
	Fetch     int64          `json:"fetch_bytes" doc:"Of weights that were not there when this was planned."`
	Predicted float64        `json:"predicted_ms,omitempty" doc:"For a token of a chat that is alone. Absent if a machine was replaced by this one."`
	Measured  *float64       `json:"measured_ms,omitempty" doc:"For a batch, the median of the last ones. Absent if nothing was computed, or this is a plan."`
	Standby   *HyperlinkPeer `json:"standby,omitempty" doc:"Who has loaded the same layers and takes the place should the machine be lost. Absent if there is nobody."`
}

// HyperlinkModel is a model that is put together from several machines.
type HyperlinkModel struct {
	Model     string           `json:"model"`
	Path      string           `json:"path"`
	Stages    []HyperlinkStage `json:"stages" doc:"In the order of the layers; the first is on this machine."`
	Predicted float64          `json:"predicted_tokens_per_second" doc:"Of a chat that is alone."`
	Measured  *float64         `json:"measured_tokens_per_second,omitempty" doc:"Of a chat that is alone, by the last steps; choosing the tokens comes on top. Absent if nothing was computed."`
	Replaced  int              `json:"replacements" doc:"Machines that were lost and replaced."`
	Since     time.Time        `json:"since"`
}

// HyperlinkOption is a way to lay a model over machines, and how fast it would be.
type HyperlinkOption struct {
	Kind       string           `json:"kind" enum:"solo,replicas,split"`
	Stages     []HyperlinkStage `json:"stages"`
	Tokens     float64          `json:"tokens_per_second" doc:"Of a chat that is alone."`
	Throughput float64          `json:"all_tokens_per_second" doc:"Of all chats together."`
	Prompt     float64          `json:"prompt_tokens_per_second"`
	Shared     float64          `json:"shared_output,omitempty" doc:"The part of the output matrix, 0 to 1, that this machine multiplies by beside the last one."`
}

// HyperlinkPlan is how a model would be laid over machines now. Nothing is loaded for it.
type HyperlinkPlan struct {
	Model string `json:"model"`
	HyperlinkOption
	Guessed      bool               `json:"guessed" doc:"The speed of this machine was not measured, so the times are a guess."`
	Alternatives []HyperlinkOption  `json:"alternatives" doc:"The best of each kind that is possible, the chosen one among them."`
	Dropped      []HyperlinkDropped `json:"dropped" doc:"The machines that the plan does without."`
}

// HyperlinkDropped is a machine that a plan does without.
type HyperlinkDropped struct {
	Peer   HyperlinkPeer `json:"peer"`
	Reason string        `json:"reason"`
}

type hyperlinkState struct{ Body HyperlinkState }

type hyperlinkPlan struct{ Body HyperlinkPlan }

type hyperlinkModel struct{ Body HyperlinkModel }

type hyperlinkAsk struct {
	Body struct {
		Model string `json:"model" minLength:"1" maxLength:"4096"`
	}
}

// hyperlink fails with why models are not put together from several machines.
func (s *Server) hyperlink() (Hyperlink, error) {
	if _, err := s.node(); err != nil {
		return nil, err
	}
	if s.Network.Hyperlink == nil {
		return nil, centram.Errorf(centram.Unavailable, "There is no place for the layers of models.").
			WithHint("The log of the daemon says why.")
	}
	return s.Network.Hyperlink, nil
}

func (s *Server) getHyperlink(ctx context.Context, _ *struct{}) (*hyperlinkState, error) {
	h, err := s.hyperlink()
	if err != nil {
		return nil, err
	}
	return &hyperlinkState{h.State(ctx)}, nil
}

func (s *Server) planHyperlink(ctx context.Context, in *hyperlinkAsk) (*hyperlinkPlan, error) {
	h, err := s.hyperlink()
	if err != nil {
		return nil, err
	}
	m, err := s.Models.Resolve(ctx, in.Body.Model)
	if err != nil {
		return nil, err
	}
	p, err := h.Plan(ctx, m.Path)
	p.Model = m.Name
	return &hyperlinkPlan{p}, err
}

// upHyperlink puts a model together and answers when it can be asked. It is stopped if the client leaves.
func (s *Server) upHyperlink(ctx context.Context, in *hyperlinkAsk) (*hyperlinkModel, error) {
	h, err := s.hyperlink()
	if err != nil {
		return nil, err
	}
	m, err := s.Models.Resolve(ctx, in.Body.Model)
	if err != nil {
		return nil, err
	}
	running, err := s.putTogether(ctx, h, m.Name, m.Path)
	return &hyperlinkModel{running}, err
}

// putTogether loads a model over several machines, unless it is loaded so. If that fails, it is as if nobody had asked.
func (s *Server) putTogether(ctx context.Context, h Hyperlink, name, file string) (HyperlinkModel, error) {
	if running, ok := together(ctx, h, file); ok {
		return running, nil
	}
	if err := h.Force(ctx, file, true); err != nil {
		return HyperlinkModel{}, err
	}
	loading, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.loads.base, cancel)()
	err := s.unload(loading, name) // if it is in memory, it is there alone
	if err == nil {
		err = s.Engine.Load(loading, name, 0)
	}
	if err == nil {
		if running, ok := together(ctx, h, file); ok {
			return running, nil
		}
		err = centram.Errorf(centram.Unavailable, "%s was unloaded meanwhile.", name).WithHint("Try again: centram hyperlink up %s", name)
	}
	if s.loads.base.Err() != nil {
		return HyperlinkModel{}, centram.Errorf(centram.Unavailable, "Centram is ending.").WithHint("Start it again with: centram serve")
	}
	after := context.WithoutCancel(ctx)
	_ = h.Force(after, file, false)
	_ = s.unload(after, name) // if the client has left, it may be loading still
	return HyperlinkModel{}, err
}

func together(ctx context.Context, h Hyperlink, file string) (HyperlinkModel, bool) {
	for _, r := range h.State(ctx).Running {
		if r.Path == file {
			return r, true
		}
	}
	return HyperlinkModel{}, false
}

// downHyperlink takes a model out of the memory of all machines. The next question loads it here, if it fits.
func (s *Server) downHyperlink(ctx context.Context, in *hyperlinkAsk) (*modelBody, error) {
	h, err := s.hyperlink()
	if err != nil {
		return nil, err
	}
	m, err := s.Models.Get(ctx, in.Body.Model)
	if err != nil {
		return nil, err
	}
	if err := h.Force(ctx, m.Path, false); err != nil {
		return nil, err
	}
	if err := s.unload(ctx, m.Name); err != nil {
		return nil, err
	}
	return s.showModel(ctx, m)
}
