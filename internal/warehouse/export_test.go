// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package warehouse

import (
	"context"
	"fmt"
	"os"
	"syscall"
)

// KillAtStep begins to insert a batch into a DuckDB file as Insert does, and kills
// the process after so many steps of it. It returns if there are fewer.
func KillAtStep(ctx context.Context, w Warehouse, b *Batch, step int) error {
	file := w.(*duckDB).file
	t := &insertion{f: file, w: file.writers[0], ctx: ctx, batch: b, refused: map[int]string{}}
	steps := append([]func() error{func() error { return t.w.exec(ctx, "BEGIN TRANSACTION") }}, t.steps()...)
	for i, do := range append(steps, func() error { return t.w.exec(ctx, "COMMIT") }) {
		if i == step {
			return kill()
		}
		if err := do(); err != nil {
			return err
		}
	}
	if step == len(steps)+1 {
		return kill()
	}
	return fmt.Errorf("there is no step %d", step)
}

// FilterFilled waits until a DuckDB warehouse has read the keys that are in its
// file, and reports whether it has all of them.
func FilterFilled(w Warehouse) bool {
	file := w.(*duckDB).file
	<-file.filled
	return file.filter.complete
}

// KillWhenGrowing kills the process at the moment when a file has become larger
// than so many bytes.
func KillWhenGrowing(path string, bytes int64) {
	for {
		if info, err := os.Stat(path); err == nil && info.Size() > bytes {
			_ = kill()
		}
	}
}

func kill() error {
	if err := syscall.Kill(os.Getpid(), syscall.SIGKILL); err != nil {
		return err
	}
	select {}
}
