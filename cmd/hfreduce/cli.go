// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/alecthomas/kong"
)

// commands is the grammar of the command line.
type commands struct {
	Launch  launchCommand  `cmd:"" help:"Start ranks on this machine."`
	Bench   benchCommands  `cmd:"" help:"Measure collectives, links between nodes, or parts of this machine."`
	Version versionCommand `cmd:"" help:"Tell version and features of this build."`

	selected *kong.Context
}

// benchCommands is what can be measured. Collectives are meant where no subcommand follows "bench".
type benchCommands struct {
	Collectives benchCommand  `cmd:"" default:"withargs" help:"Measure and verify collectives, with nccl-tests' flags and output (default)."`
	Link        linkCommand   `cmd:"" help:"Measure bandwidth or latency of the links between nodes, before the collectives are blamed."`
	Tune        tuneCommand   `cmd:"" help:"Look for the settings that suit this machine."`
	Soak        soakCommand   `cmd:"" help:"Run random collectives for a long time and verify each, also with faults injected."`
	Reduce      reduceCommand `cmd:"" help:"Measure this machine's reduction kernels against its memory (the collective is reduce_perf)."`
}

// The exit codes.
const (
	codeFailed  = 1 // a result is wrong or too slow
	codeUsage   = 2
	codeBroken  = 3 // the job could not be run
	codeLost    = 4 // a rank was lost or time ran out
	programName = "hfreduce"
)

// exit is an error with the exit code that it leads to. With no error inside, all has been said.
type exit struct {
	code int
	err  error
}

func (e *exit) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit code %d", e.code)
	}
	return e.err.Error()
}

func (e *exit) Unwrap() error { return e.err }

// usage returns an error of the command line.
func usage(format string, args ...any) error {
	return &exit{codeUsage, fmt.Errorf(format, args...)}
}

// helped is how kong's printing of help comes out of the parser.
type helped struct{}

// run runs a command and returns the exit code.
func run(s *system) (code int) {
	defer func() {
		switch r := recover().(type) {
		case nil:
		case helped:
			code = 0
		default:
			panic(r)
		}
	}()
	c, err := parseCommands(s)
	if err == nil {
		err = c.selected.Run(s)
	}
	return s.say(err)
}

// parseCommands reads the command line.
func parseCommands(s *system) (*commands, error) {
	c := new(commands)
	parser, err := kong.New(c, kong.Name(programName), kong.Description("Allreduce for GPU nodes over host memory."),
		kong.Writers(s.stdout, s.stderr), kong.Exit(func(int) { panic(helped{}) }), kong.WithHyphenPrefixedParameters(true),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, WrapUpperBound: 120}))
	if err != nil {
		return nil, fmt.Errorf("grammar of the command line: %w", err)
	}
	args := withDefault(parser.Model.Node, rewrite(s.args))
	if c.selected, err = parser.Parse(args); err != nil {
		return nil, usage("%w; see %s", err, helpCommand(args))
	}
	return c, nil
}

// helpCommand returns the command that shows the help on what was tried.
func helpCommand(args []string) string {
	if len(args) > 0 {
		switch args[0] {
		case "bench":
			switch args[1] {
			case "reduce":
				return programName + " bench reduce --help (the collective reduce is " + programName + " bench reduce_perf)"
			case "link", "soak", "tune":
				return programName + " bench " + args[1] + " --help"
			}
			return programName + " bench --help"
		case "launch", "version":
			return programName + " " + args[0] + " --help"
		}
	}
	return programName + " --help"
}

// say prints an error and returns its exit code.
func (s *system) say(err error) int {
	if err == nil {
		return 0
	}
	e := &exit{code: codeBroken, err: err}
	errors.As(err, &e)
	if e.err != nil {
		fmt.Fprintf(s.stderr, "%s: error: %s\n", programName, strings.ReplaceAll(err.Error(), "\n", "\n  "))
	}
	return e.code
}

// getenv returns a variable of the environment, "" if it is not set.
func (s *system) getenv(name string) string {
	value := ""
	for _, v := range s.env {
		if rest, ok := strings.CutPrefix(v, name+"="); ok {
			value = rest
		}
	}
	return value
}
