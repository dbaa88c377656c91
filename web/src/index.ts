// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

export type { Constant, ConstantKeys, MustBeAConstant, MustBeLettersDotsAndDashesAfterASmallLetter, Name } from './constant.js'
export type { DropReason } from './outbox.js'
export { doNotTrack, Recorder } from './recorder.js'
export type { InvalidEvent, MarketingTracking, Parameters, RecorderOptions } from './recorder.js'
