// Licensed to Apache Software Foundation (ASF) under one or more contributor
// license agreements. See the NOTICE file distributed with
// this work for additional information regarding copyright
// ownership. Apache Software Foundation (ASF) licenses this file to you under
// the Apache License, Version 2.0 (the "License"); you may
// not use this file except in compliance with the License.
// You may obtain a copy of the License at
//
//     http://www.apache.org/licenses/LICENSE-2.0
//
// Unless required by applicable law or agreed to in writing,
// software distributed under the License is distributed on an
// "AS IS" BASIS, WITHOUT WARRANTIES OR CONDITIONS OF ANY
// KIND, either express or implied.  See the License for the
// specific language governing permissions and limitations
// under the License.

package runservice

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/apache/skywalking-banyandb/ebpf/observer"
	"github.com/apache/skywalking-banyandb/pkg/config"
)

// Command returns the command `ebpf`, for a server's root command. Its subcommand `plan` attaches the probes to its own
// process, prints the result, hook by hook, and exits. It does not affect a running server.
func Command(options observer.Options) *cobra.Command {
	command := &cobra.Command{
		Use:   name,
		Short: "Show what eBPF observation can see on this kernel",
		// Replaces the server's own hook, which prints its logo and starts its log.
		PersistentPreRunE: func(*cobra.Command, []string) error { return nil },
	}
	command.AddCommand(planCommand(options))
	return command
}

func planCommand(options observer.Options) *cobra.Command {
	s := New(nil, options)
	flags := s.FlagSet()
	command := &cobra.Command{
		Use:   "plan",
		Short: "Print how each hook would be attached, what the kernel refuses and why, and which metrics are absent because of that",
		Args:  cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			if err := config.Load(name, command.Flags()); err != nil {
				return err
			}
			if err := s.Validate(); err != nil {
				return err
			}
			// The server's main prints the error, and the usage would not help at this point.
			command.SilenceUsage, command.SilenceErrors = true, true
			return s.printPlan(command)
		},
	}
	for _, flag := range []string{"ebpf-modules", "ebpf-module-dir", "ebpf-attach", "ebpf-verify", "ebpf-attribution", "ebpf-scratch-dir"} {
		command.Flags().AddFlag(flags.Lookup(flag))
	}
	return command
}

// printPlan returns an error if no module can be attached, after printing why.
func (s *Service) printPlan(command *cobra.Command) error {
	var health observer.Health
	o, err := observer.Open(command.Context(), s.options(s.flagConfig()))
	var down *observer.DownError
	switch {
	case errors.As(err, &down):
		health = down.Health
		err = errors.New("no module can be attached")
	case err != nil:
		return err
	default:
		health = o.Health()
		err = o.Close()
	}
	return errors.Join(writePlan(command.OutOrStdout(), health), err)
}

func writePlan(out io.Writer, health observer.Health) error {
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "MODULE\tHOOK\tATTACHED BY\tREFUSED")
	for _, m := range health.Modules {
		if len(m.Plan) == 0 {
			fmt.Fprintf(table, "%s\tall\t-\t%s\n", m.Name, oneLine(m.Cause))
		}
		for _, h := range m.Plan {
			attach := string(h.Attachment)
			if attach == "" {
				attach = "-"
			}
			refused := make([]string, 0, len(h.Refused))
			for _, r := range h.Refused {
				refused = append(refused, r.Variant+": "+oneLine(r.Err.Error()))
			}
			fmt.Fprintf(table, "%s\t%s\t%s\t%s\n", m.Name, h.Name, attach, strings.Join(refused, "; "))
		}
	}
	if err := table.Flush(); err != nil {
		return err
	}
	// Modules that fail for the same reason share a remedy.
	remedies := map[string]bool{}
	for _, m := range health.Modules {
		if m.Remedy != "" && !remedies[m.Remedy] {
			remedies[m.Remedy] = true
			fmt.Fprintf(out, "\nWhat to do for %s: %s\n", m.Name, m.Remedy)
		}
	}
	for _, m := range health.Modules {
		if len(m.Absent) > 0 {
			fmt.Fprintf(out, "\nAbsent on this kernel: %s\n", strings.Join(m.Absent, ", "))
		}
	}
	for _, w := range health.Warnings {
		fmt.Fprintf(out, "\nWarning: %s\nWhat to do: %s\n", oneLine(w.Cause), w.Remedy)
	}
	return writeVerified(out, health)
}

// writeVerified prints the result of each metric's verification.
func writeVerified(out io.Writer, health observer.Health) error {
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	heading := "\nMODULE\tMETRIC\tVERIFIED\tWHY NOT\n"
	for _, m := range health.Modules {
		for _, metric := range m.Metrics {
			verified := "no"
			switch {
			case metric.Verified:
				verified = "yes"
			case metric.LeftOut:
				verified = "WRONG"
			}
			fmt.Fprintf(table, "%s%s\t%s\t%s\t%s\n", heading, m.Name, metric.Name, verified, oneLine(metric.Reason))
			heading = ""
		}
	}
	return table.Flush()
}

func oneLine(text string) string {
	return strings.Join(strings.Split(text, "\n"), "; ")
}
