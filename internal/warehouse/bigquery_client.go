// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package warehouse

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"cloud.google.com/go/bigquery"
	"cloud.google.com/go/bigquery/storage/managedwriter"
	"google.golang.org/api/googleapi"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"
)

const (
	// bigQueryOpenTimeout bounds finding credentials, and looking at and making
	// the tables and views.
	bigQueryOpenTimeout = 30 * time.Second
	bigQueryPingTimeout = 10 * time.Second
)

// Environment variables that name an emulator, as host:port without TLS or
// credentials. The client library reads them in other languages, but not in Go,
// where the one for Pub/Sub is read.
const (
	emulatorHost      = "BIGQUERY_EMULATOR_HOST"
	emulatorWriteHost = "BIGQUERY_STORAGE_EMULATOR_HOST"
)

func dialBigQuery(ctx context.Context, project string) (*bigquery.Client, error) {
	return dialGoogle(ctx, func(ctx context.Context) (*bigquery.Client, error) {
		var options []option.ClientOption
		if host := os.Getenv(emulatorHost); host != "" {
			options = append(options, option.WithEndpoint("http://"+host+"/bigquery/v2/"), option.WithoutAuthentication())
		}
		return bigquery.NewClient(ctx, project, options...)
	})
}

func dialBigQueryWrite(ctx context.Context, project string) (*managedwriter.Client, error) {
	return dialGoogle(ctx, func(ctx context.Context) (*managedwriter.Client, error) {
		options := []option.ClientOption{
			option.WithGRPCConnectionPool(1), // it carries one stream for each table
			option.WithGRPCDialOption(grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 5 * time.Minute})),
		}
		switch host := os.Getenv(emulatorWriteHost); {
		case host != "":
			options = append(options, option.WithEndpoint(host), option.WithoutAuthentication(),
				option.WithGRPCDialOption(grpc.WithTransportCredentials(insecure.NewCredentials())))
		case os.Getenv(emulatorHost) != "":
			// Half of an emulator would have the tables here and the rows there.
			return nil, fmt.Errorf("%s is set and %s is not: set both, or neither", emulatorHost, emulatorWriteHost)
		}
		return managedwriter.NewClient(ctx, project, options...)
	})
}

// dialGoogle opens a client. Looking for credentials asks the network whether
// this is a machine of Google's, and takes no context: it is left behind when ctx
// ends.
func dialGoogle[C io.Closer](ctx context.Context, open func(context.Context) (C, error)) (C, error) {
	ctx, cancel := context.WithTimeout(ctx, bigQueryOpenTimeout)
	defer cancel()
	type result struct {
		client C
		err    error
	}
	done := make(chan result, 1)
	go func() {
		// The context is that of opening only: a client outlives it.
		client, err := open(context.WithoutCancel(ctx))
		done <- result{client, err}
	}()
	var none C
	const hint = "run “gcloud auth application-default login”, or set GOOGLE_APPLICATION_CREDENTIALS"
	select {
	case r := <-done:
		if r.err != nil {
			return none, fmt.Errorf("%w: %s", r.err, hint)
		}
		return r.client, nil
	case <-ctx.Done():
		go func() {
			if r := <-done; r.err == nil {
				r.client.Close()
			}
		}()
		return none, fmt.Errorf("find credentials: %w: %s", ctx.Err(), hint)
	}
}

// explain says what an operator can do about an error. What BigQuery says about
// rows may quote them, so of a request that it calls invalid only the code is
// kept.
func (w *bigQuery) explain(err error) error {
	if err == nil {
		return nil
	}
	const roles = "grant roles/bigquery.dataEditor on the dataset and roles/bigquery.jobUser on the project"
	name := w.project + ":" + w.dataset
	var api *googleapi.Error
	if errors.As(err, &api) {
		switch {
		case api.Code == http.StatusForbidden && hasReason(api, "accessDenied"):
			return fmt.Errorf("not allowed to use the dataset %s: %s (%w)", name, roles, err)
		case api.Code == http.StatusUnauthorized:
			return fmt.Errorf("BigQuery does not accept the credentials: run “gcloud auth application-default login”, or set GOOGLE_APPLICATION_CREDENTIALS (%w)", err)
		}
		return err
	}
	switch s, _ := status.FromError(err); s.Code() {
	case codes.PermissionDenied:
		return fmt.Errorf("not allowed to write to the dataset %s: %s (%w)", name, roles, err)
	case codes.Unauthenticated:
		return fmt.Errorf("BigQuery does not accept the credentials: run “gcloud auth application-default login”, or set GOOGLE_APPLICATION_CREDENTIALS (%w)", err)
	case codes.ResourceExhausted:
		return fmt.Errorf("a quota of BigQuery's is exhausted in the project %s: wait, or ask for more of AppendRows throughput (%w)", w.project, err)
	case codes.InvalidArgument:
		if storageCode(err) == storageExtraFields {
			return fmt.Errorf("BigQuery does not yet know columns that were added to the tables of %s; that takes some minutes (%s)", name, s.Code())
		}
		return fmt.Errorf("BigQuery calls the request for %s invalid (%s %s): compare its tables with docs/warehouse.md", name, s.Code(), storageCode(err))
	case codes.Unavailable:
		return fmt.Errorf("cannot reach BigQuery: check the network, and %s if it is set (%w)", emulatorWriteHost, err)
	}
	return err
}

func hasReason(e *googleapi.Error, reason string) bool {
	for _, item := range e.Errors {
		if item.Reason == reason {
			return true
		}
	}
	return false
}
