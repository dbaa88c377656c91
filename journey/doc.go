// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

// Package journey proves, with real processes on loopback, what no test of one
// package can: that the telemetry binary as it is shipped keeps its promises
// along the whole road. Its tests
//
//   - kill the gateway under load, and cut the power of its disk, again and
//     again, and lose no acknowledged event;
//   - load it with more than it may hold in memory, and it stays within bounds;
//   - stop it with hundreds of streams open, and each sender knows what to keep;
//   - read what it published with Google's own client, from Google's emulator;
//   - have services send with tokens of a real OAuth provider, revoke them, stop
//     the provider and answer in its place, and only who may send is let in;
//   - configure it wrongly in every way, and it says what to do;
//   - replay recorded calls of old senders, byte for byte;
//   - kill an instance at every step of its calls to the gateway, fill its disk and
//     cut its power, restart its PostgreSQL under load, take its gateway away, and
//     every event that it recorded arrives, each once by its ID;
//   - put a text of its own into every private field, and find none of them where
//     it was not allowed: on the wire, in the queue's files, logs or metrics;
//   - run an instance that may not send in a network of its own, and no packet
//     leaves it;
//   - run the published web client, unmodified, in a real browser, and its events
//     arrive field by field;
//   - take the whole road, from an instance's door to a row in DuckDB, kill each
//     process on it at each of its steps, the pipeline 100 times as it writes, cut
//     the power of topic and warehouse, lock, fill, freeze and protect the file
//     from writing, and have pipelines take over from each other: an audit finds
//     each event once, unaltered, as its sender's;
//   - mend dead letters of the gateway and the pipeline, kill the command in the
//     middle, and each lands once, marked with what it was;
//   - export the warehouse under load, and the files hold what its tables had at a
//     moment; kill the export, or the pipeline that it asks, and no part of a file
//     is left where files belong;
//   - put a text of its own into every field of events that land or cannot, and
//     find none in the pipeline's logs, metrics, health and balance;
//   - use the page of examples/service in a real browser, with a real OAuth
//     provider, and leave it in every way: all that was done arrives, as the
//     service's.
//
// Nothing here knows how a payload is made: a ledger outside the processes under
// test knows of each event whether it was sent and acknowledged, and compares
// that with the lines that telemetry tail prints, read with encoding/json, and with
// the rows of a warehouse, read with SQL.
package journey
