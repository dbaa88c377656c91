// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package command

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Flags are the flags of one command. Flags are defined with the methods of
// flag.FlagSet, and each can also be set by an environment variable: -topic by
// TELEMETRY_TOPIC, -license-keys by TELEMETRY_LICENSE_KEYS. A flag wins over
// the environment, the environment over the default. A variable that is set to
// the empty string counts as not set.
type Flags struct {
	*flag.FlagSet
	// Takes is what arguments besides flags are called, for people; without it
	// there must be none.
	Takes   string
	help    string
	args    []string            // those arguments, in order
	also    map[string][]envVar // by flag: more variables that set it, in order
	sources map[string]string   // by flag: where its value is from, if not the default
	print   *bool
}

// envVar is a variable that sets a flag besides the one of the flag's name.
type envVar struct {
	name  string
	value func(string) string // turns the variable's value into the flag's
}

// NewFlags returns the flags of the command with the given full name, such as
// "telemetry license issue". The help text begins with the arguments, as they
// follow the name, and ends with examples.
func NewFlags(name, help string) *Flags {
	f := &Flags{
		FlagSet: flag.NewFlagSet(name, flag.ContinueOnError),
		help:    help,
		also:    map[string][]envVar{},
		sources: map[string]string{},
	}
	f.SetOutput(io.Discard)
	f.print = f.Bool("print-config", false, "print every flag with its value and where that is from, secrets hidden, and exit")
	return f
}

// Env lets one more variable set a flag that is already defined. If value is
// not nil, it turns the variable's value into the flag's.
func (f *Flags) Env(name, variable string, value func(string) string) {
	if f.Lookup(name) == nil {
		panic("no flag -" + name)
	}
	f.also[name] = append(f.also[name], envVar{variable, value})
}

// Secret is a value that is never printed.
type Secret string

const hidden = "(hidden)"

// Format writes no part of the secret, whatever the verb.
func (s Secret) Format(w fmt.State, _ rune) { _, _ = io.WriteString(w, hidden) }

// MarshalText returns no part of the secret.
func (s Secret) MarshalText() ([]byte, error) { return []byte(hidden), nil }

// secretValue is the flag.Value of a secret. Its String never fails to hide.
type secretValue struct{ *Secret }

func (v secretValue) Set(s string) error { *v.Secret = Secret(s); return nil }

// String shows only whether there is a secret. A value that begins with @ is
// hidden too: it names a file to one command and is the secret to another.
func (v secretValue) String() string {
	if v.Secret == nil || *v.Secret == "" {
		return ""
	}
	return hidden
}

// Secret defines a flag whose value is not shown by -print-config.
func (f *Flags) Secret(name, usage string) *Secret {
	s := new(Secret)
	f.Var(secretValue{s}, name, usage)
	return s
}

// Parse sets the flags from args and the environment. Besides errors for which
// the command exits with 2, it returns ErrDone when it has printed what args
// asked for. A variable that looks like a slip for one of this command's gets
// a line on stderr: it may well belong to another program.
func (f *Flags) Parse(args []string, stdout, stderr io.Writer) error {
	if err := f.parseArgs(args); errors.Is(err, flag.ErrHelp) {
		return cmp.Or(f.printHelp(stdout), ErrDone)
	} else if err != nil {
		return BadConfig("%w; see %s", err, f.HelpCommand())
	}
	if err := f.parseEnv(); err != nil {
		return err
	}
	f.warn(stderr)
	if *f.print {
		return cmp.Or(f.printConfig(stdout), ErrDone)
	}
	return nil
}

// Args returns the arguments besides flags, wherever among them they stood.
func (f *Flags) Args() []string { return f.args }

// sqlComment is how a statement begins that begins with a comment. No flag is
// written so.
var sqlComment = regexp.MustCompile(`^--(\s|.*[\r\n])`)

// parseArgs lets flags follow other arguments, up to "--", and takes a statement
// that begins with a comment for what it is.
func (f *Flags) parseArgs(args []string) error {
	for {
		err := f.FlagSet.Parse(args)
		rest := f.FlagSet.Args()
		if err != nil {
			malformed := strings.HasPrefix(err.Error(), "bad flag syntax")
			if malformed {
				rest = rest[1:] // others it takes away
			}
			no := args[len(args)-len(rest)-1]
			if !sqlComment.MatchString(no) || !malformed && !strings.HasPrefix(err.Error(), notDefined) {
				return f.explain(err)
			}
			f.args, args = append(f.args, no), rest
			continue
		}
		if n := len(args) - len(rest); len(rest) > 0 && !(n > 0 && args[n-1] == "--") {
			f.args, args = append(f.args, rest[0]), rest[1:]
			continue
		}
		f.args = append(f.args, rest...)
		break
	}
	f.Visit(func(fl *flag.Flag) { f.sources[fl.Name] = "from flag" })
	if f.Takes == "" && len(f.args) > 0 {
		return fmt.Errorf("unexpected argument %q", f.args[0])
	}
	return nil
}

// notDefined is how the flag package begins to say that there is no such flag.
const notDefined = "flag provided but not defined: -"

// explain makes the flag package's errors more helpful.
func (f *Flags) explain(err error) error {
	if errors.Is(err, flag.ErrHelp) {
		return err
	}
	if name, ok := strings.CutPrefix(err.Error(), notDefined); ok {
		var names []string
		f.VisitAll(func(fl *flag.Flag) { names = append(names, fl.Name) })
		return fmt.Errorf("unknown flag -%s%s", name, didYouMean(name, names, "-"))
	}
	return errors.New(MaskURLs(err.Error()))
}

func (f *Flags) parseEnv() error {
	var bad error
	f.VisitAll(func(fl *flag.Flag) {
		if f.sources[fl.Name] != "" || bad != nil {
			return
		}
		for _, v := range f.variables(fl) {
			s := os.Getenv(v.name)
			if s == "" {
				continue
			}
			if v.value != nil {
				s = v.value(s)
			}
			if err := f.Set(fl.Name, s); err != nil {
				bad = BadConfig("invalid value %q in %s, which sets -%s: %w; see %s",
					MaskURLs(s), v.name, fl.Name, err, f.HelpCommand())
			}
			f.sources[fl.Name] = "from env " + v.name
			return
		}
	})
	return bad
}

// variables returns the variables that set a flag, the first that is set wins.
func (f *Flags) variables(fl *flag.Flag) []envVar {
	if fl.Name == "print-config" {
		return nil
	}
	return append([]envVar{{name: EnvName(fl.Name)}}, f.also[fl.Name]...)
}

const envPrefix = "TELEMETRY_"

func EnvName(flagName string) string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(flagName, "-", "_"))
}

// warn names variables that look like a slip for one of this command's. Others
// pass: they may be another command's, or another program's.
func (f *Flags) warn(w io.Writer) {
	var known []string
	f.VisitAll(func(fl *flag.Flag) {
		for _, v := range f.variables(fl) {
			known = append(known, v.name)
		}
	})
	for _, kv := range os.Environ() {
		name, _, _ := strings.Cut(kv, "=")
		if !strings.HasPrefix(name, envPrefix) || slices.Contains(known, name) {
			continue
		}
		for _, k := range known {
			if distance(name, k) <= 1 {
				fmt.Fprintf(w, "%s: warning: %s is set but sets nothing; did you mean %s?\n", f.Name(), name, k)
			}
		}
	}
}

// HelpCommand returns what a person types to read the help.
func (f *Flags) HelpCommand() string {
	program, command, _ := strings.Cut(f.Name(), " ")
	return program + " help " + command
}

func (f *Flags) printHelp(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "usage: %s %s\n\n", f.Name(), strings.TrimSpace(f.help))
	b.WriteString("Flags, each with the environment variable that also sets it (a flag wins):\n")
	f.VisitAll(func(fl *flag.Flag) {
		kind, usage := flag.UnquoteUsage(fl)
		if kind != "" {
			kind = " " + kind
		}
		fmt.Fprintf(&b, "\n  -%s%s\n", fl.Name, kind)
		if fl.DefValue != "" && fl.DefValue != "false" {
			usage += " (default " + fl.DefValue + ")"
		}
		paragraph(&b, usage)
		var names []string
		for _, v := range f.variables(fl) {
			names = append(names, "$"+v.name)
		}
		paragraph(&b, strings.Join(names, ", "))
	})
	_, err := io.WriteString(w, b.String())
	return err
}

// paragraph writes text as indented lines of at most 80 columns, where its words
// allow.
func paragraph(b *strings.Builder, text string) {
	const indent, columns = "        ", 80
	n := 0
	for _, word := range strings.Fields(text) {
		switch {
		case n == 0:
			b.WriteString(indent)
			n = len(indent)
		case n+1+len(word) > columns:
			b.WriteString("\n" + indent)
			n = len(indent)
		default:
			b.WriteByte(' ')
			n++
		}
		b.WriteString(word)
		n += len(word)
	}
	if n > 0 {
		b.WriteByte('\n')
	}
}

func (f *Flags) printConfig(w io.Writer) error {
	var b strings.Builder
	f.VisitAll(func(fl *flag.Flag) {
		if fl.Name == "print-config" {
			return
		}
		value := MaskURLs(fl.Value.String())
		if value == "" || strings.ContainsFunc(value, func(r rune) bool { return r <= ' ' || r == '#' || r == '"' }) {
			value = strconv.Quote(value)
		}
		fmt.Fprintf(&b, "%s = %s   # %s\n", fl.Name, value, cmp.Or(f.sources[fl.Name], "default"))
	})
	_, err := io.WriteString(w, b.String())
	return err
}

// secretParameter is a secret among the parameters of a URL, such as that of a
// database.
var secretParameter = regexp.MustCompile(`(?i)((?:password|secret|token)=)[^&]*`)

// MaskURLs hides user names and passwords in URLs. A password may hold
// characters that it must not, so everything up to the last @ is hidden.
func MaskURLs(s string) string {
	s = secretParameter.ReplaceAllString(s, "${1}"+hidden)
	begin, end := strings.Index(s, "://"), strings.LastIndex(s, "@")
	if begin < 0 || end < begin {
		return s
	}
	return s[:begin+len("://")] + hidden + s[end:]
}
