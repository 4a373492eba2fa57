package main

import (
	"selvedge.dev/tunnel/engine"
	"selvedge.dev/tunnel/engine/kernel"
	"selvedge.dev/tunnel/engine/user"
	"selvedge.dev/tunnel/host"
	"selvedge.dev/tunnel/probe"
	"selvedge.dev/tunnel/state"
)

// options wire the parts that this program is built of.
func options(tell func(state.Event)) host.Options {
	return host.Options{
		Program:     "selvedge-tunnel " + version,
		User:        func(string) (engine.Engine, error) { return user.New() },
		Kernel:      func(owner string) (engine.Engine, error) { return kernel.New(owner) },
		KernelLacks: kernel.Lacks,
		Forget:      kernel.Forget,
		Echo:        probe.Echo,
		Tell:        tell,
	}
}
