// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package warehouse

import (
	"fmt"
	"os"
	"slices"
	"sync"
)

// claimed are the files that this process has open. DuckDB's locks are POSIX's:
// they are the process's, so that a second DuckDB in it would not meet them, and
// would even take the first one's away when it closes the file. This is state of
// the process because what it stands for is.
var claimed struct {
	sync.Mutex
	files []os.FileInfo
}

// claim returns an error if something else in this process has the file, and
// else what ends the claim.
func claim(info os.FileInfo, path string) (release func(), err error) {
	claimed.Lock()
	defer claimed.Unlock()
	if slices.ContainsFunc(claimed.files, func(other os.FileInfo) bool { return os.SameFile(info, other) }) {
		return nil, fmt.Errorf("%w: this process has %s open already", ErrLocked, path)
	}
	claimed.files = append(claimed.files, info)
	return sync.OnceFunc(func() {
		claimed.Lock()
		defer claimed.Unlock()
		claimed.files = slices.DeleteFunc(claimed.files, func(other os.FileInfo) bool { return other == info })
	}), nil
}
