// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package warehouse

import (
	"context"
	"errors"
	"io"
	"strings"
	"time"

	"cloud.google.com/go/bigquery/storage/apiv1/storagepb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// outcome says what to do after a request to append rows.
type outcome int

const (
	outcomeLanded outcome = iota // nothing
	outcomeThere                 // the offset is taken: nothing, if it was by us
	outcomeRows                  // leave out the rows that are refused
	outcomeAgain                 // connect again, and send it to the same offset: it may have landed
	outcomeQuota                 // the same, after a longer pause
	outcomeStream                // make a new stream
	outcomeTable                 // look at the table
	outcomeDenied                // ask the operator
)

// passing reports whether it makes sense to try again at once.
func (o outcome) passing() bool {
	return o == outcomeAgain || o == outcomeQuota || o == outcomeStream
}

// pause is how long the first wait is, at most.
func (o outcome) pause() time.Duration {
	if o == outcomeQuota {
		return 2 * time.Second
	}
	return 100 * time.Millisecond
}

const storageExtraFields = storagepb.StorageError_SCHEMA_MISMATCH_EXTRA_FIELDS

// What the service's own codes mean, which say more than gRPC's.
var storageOutcomes = map[storagepb.StorageError_StorageErrorCode]outcome{
	storagepb.StorageError_OFFSET_ALREADY_EXISTS:    outcomeThere,
	storagepb.StorageError_OFFSET_OUT_OF_RANGE:      outcomeStream,
	storagepb.StorageError_STREAM_NOT_FOUND:         outcomeStream,
	storagepb.StorageError_STREAM_FINALIZED:         outcomeStream,
	storagepb.StorageError_STREAM_ALREADY_COMMITTED: outcomeStream,
	storagepb.StorageError_INVALID_STREAM_STATE:     outcomeStream,
	storagepb.StorageError_INVALID_STREAM_TYPE:      outcomeStream,
	storagepb.StorageError_TABLE_NOT_FOUND:          outcomeTable,
	storageExtraFields:                              outcomeTable,
	storagepb.StorageError_KMS_SERVICE_ERROR:        outcomeAgain,
	storagepb.StorageError_CMEK_NOT_PROVIDED:        outcomeDenied,
	storagepb.StorageError_INVALID_CMEK_PROVIDED:    outcomeDenied,
	storagepb.StorageError_CMEK_ENCRYPTION_ERROR:    outcomeDenied,
	storagepb.StorageError_KMS_PERMISSION_DENIED:    outcomeDenied,
}

// What gRPC's codes mean. Those that are missing are for the operator.
var codeOutcomes = map[codes.Code]outcome{
	codes.OK:                 outcomeLanded,
	codes.AlreadyExists:      outcomeThere,
	codes.OutOfRange:         outcomeStream,
	codes.NotFound:           outcomeStream,
	codes.FailedPrecondition: outcomeStream,
	codes.Aborted:            outcomeAgain,
	codes.Canceled:           outcomeAgain,
	codes.DeadlineExceeded:   outcomeAgain,
	codes.Internal:           outcomeAgain,
	codes.Unavailable:        outcomeAgain,
	codes.Unknown:            outcomeAgain,
	codes.ResourceExhausted:  outcomeQuota,
	codes.InvalidArgument:    outcomeTable,
	codes.PermissionDenied:   outcomeDenied,
	codes.Unauthenticated:    outcomeDenied,
}

func outcomeOf(err error) outcome {
	switch {
	case err == nil:
		return outcomeLanded
	case errors.Is(err, errRows):
		return outcomeRows
	case errors.Is(err, io.EOF), errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return outcomeAgain
	}
	if v, ok := storageOutcomes[storageCode(err)]; ok {
		return v
	}
	code := status.Code(err)
	if code == codes.ResourceExhausted && strings.Contains(err.Error(), "larger than max") {
		return outcomeDenied // how gRPC says that a message is too large
	}
	if v, ok := codeOutcomes[code]; ok {
		return v
	}
	return outcomeDenied
}

// storageCode returns the service's own code of an error, or none.
func storageCode(err error) storagepb.StorageError_StorageErrorCode {
	s, ok := status.FromError(err)
	if !ok {
		return storagepb.StorageError_STORAGE_ERROR_CODE_UNSPECIFIED
	}
	for _, d := range s.Details() {
		if e, ok := d.(*storagepb.StorageError); ok {
			return e.Code
		}
	}
	return storagepb.StorageError_STORAGE_ERROR_CODE_UNSPECIFIED
}
