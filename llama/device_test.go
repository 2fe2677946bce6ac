package llama

import (
	"slices"
	"testing"
)

func TestTheProcessorIsADevice(t *testing.T) {
	all := Devices()
	i := slices.IndexFunc(all, func(d Device) bool { return d.Kind == CPU })
	if i < 0 || all[i].Name == "" || all[i].Total < 64<<20 || all[i].Free > all[i].Total {
		t.Errorf("got %+v, want the processor among them, with the machine's memory", all)
	}
	gpu := slices.ContainsFunc(all, func(d Device) bool { return d.Kind == GPU || d.Kind == IntegratedGPU })
	if gpu != GPUOffload() {
		t.Errorf("got %+v, but layers can be put on a GPU: %v", all, GPUOffload())
	}
}
