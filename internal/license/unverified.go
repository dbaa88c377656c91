// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package license

import (
	"encoding/json"
	"fmt"
)

// Claims returns what a key says about itself. Nothing of it is proven: anyone
// can make a key that says anything. So it may only ever be used to be
// stricter than without the key, such as to export less, and never to grant,
// identify or believe anything. Use Verify for that.
//
// It is for instances, which have the key but not the public keys to verify it
// with. For the same reason it reads keys of any version and signature: a
// restriction in a key that is too new is still one.
//
// Errors wrap ErrMalformed and hold nothing of the key.
func Claims(key string) (*Info, error) {
	_, signed, err := decode(key)
	if err != nil {
		return nil, err
	}
	var i infoJSON
	if err := json.Unmarshal(signed, &i); err != nil {
		return nil, fmt.Errorf("%w (its info cannot be read)", ErrMalformed)
	}
	info := i.info()
	return &info, nil
}
