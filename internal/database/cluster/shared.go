// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"fmt"
	"sync"
	"sync/atomic"
)

// Shared is one cluster for all tests of a package. It starts when it is first
// asked for; TestMain stops it. The zero value is ready, and its methods may be
// called at once.
type Shared struct {
	once    sync.Once
	cluster *Cluster
	err     error
	schemas atomic.Int64
}

// Cluster returns the cluster, and starts it the first time.
func (s *Shared) Cluster() (*Cluster, error) {
	s.once.Do(func() { s.cluster, s.err = Start("") })
	return s.cluster, s.err
}

// Schema returns the URL of a new, empty schema, which is as good as a database
// and made much faster.
func (s *Shared) Schema() (string, error) {
	c, err := s.Cluster()
	if err != nil {
		return "", err
	}
	name := fmt.Sprintf("test%d", s.schemas.Add(1))
	if err := c.execute("CREATE SCHEMA " + name); err != nil {
		return "", err
	}
	return c.URL("postgres") + "&search_path=" + name, nil
}

// Restart is Cluster.Restart.
func (s *Shared) Restart(mode string) error {
	c, err := s.Cluster()
	if err != nil {
		return err
	}
	return c.Restart(mode)
}

// Stop stops the cluster, if it was started.
func (s *Shared) Stop() error {
	s.once.Do(func() {})
	if s.cluster == nil {
		return nil
	}
	return s.cluster.Stop()
}
