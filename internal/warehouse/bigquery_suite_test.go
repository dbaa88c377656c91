// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package warehouse_test

import (
	"context"
	"os"
	"strings"
	"testing"

	"cloud.google.com/go/bigquery"
	"github.com/google/uuid"

	"github.com/telemetrygateway/telemetry/internal/warehouse"
	"github.com/telemetrygateway/telemetry/internal/warehouse/bigqueryfake"
)

// appending is a warehouse that takes all rows and tells those that are known
// apart when it is asked, and not when they land.
type appending struct{ warehouse.Warehouse }

// sees is what of a result such a warehouse knows.
func (appending) sees(b warehouse.Batch, r warehouse.Result) warehouse.Result {
	return warehouse.Result{Landed: len(b.Events) - len(r.Refused), Refused: r.Refused, Rejected: len(b.Rejected)}
}

func startBigQuery(t *testing.T) func(o warehouse.Options) (warehouse.Warehouse, error) {
	bigqueryfake.Start(t).CreateDataset(t, "test-project", "telemetry")
	return openAppending(t, "bigquery://test-project/telemetry")
}

func openAppending(t *testing.T, url string) func(o warehouse.Options) (warehouse.Warehouse, error) {
	return func(o warehouse.Options) (warehouse.Warehouse, error) {
		w, err := warehouse.Open(t.Context(), url, o)
		return appending{w}, err
	}
}

// withBigQuery adds BigQuery itself to the implementations when
// TELEMETRY_TEST_BIGQUERY=PROJECT/DATASET names one, with the usual credentials.
// Each test has a dataset of its own, whose name begins with DATASET and which
// is removed when it ends.
func withBigQuery(all []implementation) []implementation {
	project, prefix, ok := strings.Cut(os.Getenv("TELEMETRY_TEST_BIGQUERY"), "/")
	if !ok {
		return all
	}
	return append(all, implementation{"bigquery itself", func(t *testing.T) func(o warehouse.Options) (warehouse.Warehouse, error) {
		client, err := bigquery.NewClient(t.Context(), project)
		if err != nil {
			t.Fatalf("TELEMETRY_TEST_BIGQUERY: %v", err)
		}
		name := prefix + "_" + strings.ReplaceAll(uuid.NewString(), "-", "")
		dataset := client.Dataset(name)
		if err := dataset.Create(t.Context(), nil); err != nil {
			t.Fatalf("TELEMETRY_TEST_BIGQUERY: make a dataset for a test: %v", err)
		}
		ctx := t.Context()
		t.Cleanup(func() {
			if err := dataset.DeleteWithContents(context.WithoutCancel(ctx)); err != nil {
				t.Errorf("remove the dataset %s: %v", name, err)
			}
			client.Close()
		})
		return openAppending(t, "bigquery://"+project+"/"+name)
	}})
}
