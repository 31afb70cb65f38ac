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

package banyandtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	databasev1 "github.com/apache/skywalking-banyandb/api/proto/banyandb/database/v1"
)

// Cluster is one data node and one liaison on this host. It must be stopped.
type Cluster struct {
	Data, Liaison *Server
	temp          string
}

// StartCluster starts the data node, then the liaison, and returns when the liaison routes to both.
func StartCluster(ctx context.Context, opts Options) (*Cluster, error) {
	temp, err := os.MkdirTemp(opts.Dir, "banyand-cluster-")
	if err != nil {
		return nil, fmt.Errorf("creating the cluster's folder: %w", err)
	}
	cluster := &Cluster{temp: temp}
	if err = cluster.start(ctx, opts); err != nil {
		return nil, errors.Join(err, cluster.Stop())
	}
	return cluster, nil
}

func (c *Cluster) start(ctx context.Context, opts Options) error {
	nodes := filepath.Join(c.temp, "nodes.yaml")
	flags := []string{
		"--schema-registry-mode=property",
		"--node-discovery-mode=file", "--node-discovery-file-path=" + nodes,
		// Otherwise a node that is in the file before it runs would be retried after ever longer pauses.
		"--node-discovery-file-retry-max-interval=1s",
	}
	if err := writeNodes(nodes); err != nil {
		return err
	}
	start := func(r role) (*Server, error) {
		root := filepath.Join(c.temp, string(r))
		if err := os.Mkdir(root, 0o755); err != nil {
			return nil, fmt.Errorf("creating the node's folder: %w", err)
		}
		return startNode(ctx, r, root, opts, flags)
	}
	var err error
	if c.Data, err = start(data); err != nil {
		return err
	}
	if err = writeNodes(nodes, c.Data.GRPC); err != nil {
		return err
	}
	if c.Liaison, err = start(liaison); err != nil {
		return err
	}
	if err = writeNodes(nodes, c.Data.GRPC, c.Liaison.internal); err != nil {
		return err
	}
	return c.waitRoutes(ctx)
}

// writeNodes writes the file from which the nodes learn of each other. They watch it.
func writeNodes(path string, addresses ...string) error {
	var content strings.Builder
	content.WriteString("nodes:\n")
	for _, a := range addresses {
		fmt.Fprintf(&content, "  - name: %s\n    grpc_address: %s\n", a, a)
	}
	if err := os.WriteFile(path, []byte(content.String()), 0o600); err != nil {
		return fmt.Errorf("writing the list of nodes: %w", err)
	}
	return nil
}

// waitRoutes waits until the liaison has an active liaison and an active data node in its tables.
func (c *Cluster) waitRoutes(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	conn, err := c.Liaison.Dial()
	if err != nil {
		return err
	}
	defer conn.Close()
	state := databasev1.NewClusterStateServiceClient(conn)
	return c.Liaison.poll(ctx, func() error {
		answer, err := state.GetClusterState(ctx, &databasev1.GetClusterStateRequest{})
		if err != nil {
			return fmt.Errorf("asking the liaison for its routes: %w", err)
		}
		for _, table := range []string{"tire1", "tire2"} {
			if len(answer.GetRouteTables()[table].GetActive()) == 0 {
				return fmt.Errorf("the liaison has no active node in its table %s", table)
			}
		}
		return nil
	})
}

// Stop stops the liaison, then the data node, and removes their files. A second call does nothing.
func (c *Cluster) Stop() error {
	var errs []error
	for _, node := range []*Server{c.Liaison, c.Data} {
		if node != nil {
			errs = append(errs, node.Stop())
		}
	}
	return errors.Join(append(errs, os.RemoveAll(c.temp))...)
}
