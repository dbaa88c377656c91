// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package oauth

import (
	"bufio"
	"compress/gzip"
	"context"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/telemetrygateway/telemetry/internal/limits"
)

// canary is a token that a hostile provider writes wherever it can.
const canary = "TOKEN-CANARY"

// answered is a whole HTTP answer.
func answered(status, header, body string) func(io.Writer) {
	return func(w io.Writer) {
		fmt.Fprintf(w, "HTTP/1.1 %s\r\n%sContent-Length: %d\r\n\r\n%s", status, header, len(body), body)
	}
}

func repeatedly(first, again string, every time.Duration) func(io.Writer) {
	return func(w io.Writer) {
		_, err := io.WriteString(w, first)
		for err == nil {
			time.Sleep(every)
			_, err = io.WriteString(w, again)
		}
	}
}

// padded is an active answer of so many bytes.
func padded(size int) string {
	const first, last = `{"active": true, "x": "`, `"}`
	return first + strings.Repeat("x", size-len(first)-len(last)) + last
}

func compressed(text string) string {
	var b strings.Builder
	w := gzip.NewWriter(&b)
	io.WriteString(w, text)
	w.Close()
	return b.String()
}

// Whatever the provider sends, in whatever way: it ends in time, lets nobody in
// unless it is an answer, and what it wrote is nowhere.
func TestHostileProvider(t *testing.T) {
	const json = "Content-Type: application/json\r\n"
	kilobyte := strings.Repeat("x", 1<<10)
	for name, row := range map[string]struct {
		write func(io.Writer)
		want  Reason
	}{
		"an answer":                    {answered("200 OK", json, active), ""},
		"an answer without a type":     {answered("200 OK", "", active), ""},
		"an answer of another type":    {answered("200 OK", "Content-Type: text/html\r\n", active), ""},
		"an answer between blanks":     {answered("200 OK", json, "\r\n\t "+active+"\n"), ""},
		"the longest answer":           {answered("200 OK", json, padded(limits.TokenAnswerBytes)), ""},
		"a byte too many":              {answered("200 OK", json, padded(limits.TokenAnswerBytes+1)), Unavailable},
		"no content":                   {answered("204 No Content", json, ""), Unavailable},
		"accepted, says the status":    {answered("202 "+canary, json, active), Unavailable},
		"moved":                        {answered("302 Found", "Location: http://127.0.0.1/"+canary+"\r\n", active), Unavailable},
		"moved, to be sent there":      {answered("307 Temporary Redirect", "Location: /introspect?token="+canary+"\r\n", active), Unavailable},
		"moved for good":               {answered("308 Permanent Redirect", "Location: http://"+canary+".example/\r\n", active), Unavailable},
		"bad request":                  {answered("400 Bad Request", json, `{"error": "`+canary+`"}`), Unavailable},
		"who are you":                  {answered("401 Unauthorized", "WWW-Authenticate: Basic realm="+canary+"\r\n", active), Unavailable},
		"forbidden":                    {answered("403 Forbidden", json, active), Unavailable},
		"not found":                    {answered("404 Not Found", json, active), Unavailable},
		"too many requests":            {answered("429 Too Many Requests", json, active), Unavailable},
		"internal error":               {answered("500 "+canary, json, active), Unavailable},
		"empty":                        {answered("200 OK", json, ""), Unavailable},
		"a page":                       {answered("200 OK", "Content-Type: text/html\r\n", "<html>"+canary+"</html>"), Unavailable},
		"null":                         {answered("200 OK", json, "null"), Unavailable},
		"true":                         {answered("200 OK", json, "true"), Unavailable},
		"an array":                     {answered("200 OK", json, "["+active+"]"), Unavailable},
		"two answers":                  {answered("200 OK", json, active+active), Unavailable},
		"half an answer":               {answered("200 OK", json, active[:len(active)/2]), Unavailable},
		"an answer and more":           {answered("200 OK", json, active+canary), Unavailable},
		"fields of other types":        {answered("200 OK", json, `{"active": true, "client_id": 12345, "sub": "`+canary+`"}`), Unavailable},
		"a token in place of a number": {answered("200 OK", json, `{"active": true, "exp": "`+canary+`"}`), Unavailable},
		"deep":                         {answered("200 OK", json, `{"active": true, "x": `+strings.Repeat("[", 30_000)+strings.Repeat("]", 30_000)+"}"), Unavailable},
		"compressed":                   {answered("200 OK", "Content-Encoding: gzip\r\n", compressed(active)), Unavailable},
		"less than announced": {func(w io.Writer) {
			fmt.Fprintf(w, "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n%s", active)
		}, Unavailable},
		"not HTTP":        {func(w io.Writer) { io.WriteString(w, canary+"\r\n\r\n") }, Unavailable},
		"no status":       {func(w io.Writer) { io.WriteString(w, "HTTP/1.1 "+canary+"\r\n\r\n") }, Unavailable},
		"a broken header": {func(w io.Writer) { io.WriteString(w, "HTTP/1.1 200 OK\r\n"+canary+"\r\n\r\n") }, Unavailable},
		"a broken length": {func(w io.Writer) { io.WriteString(w, "HTTP/1.1 200 OK\r\nContent-Length: "+canary+"\r\n\r\n") }, Unavailable},
		"a broken chunk": {func(w io.Writer) {
			io.WriteString(w, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"+canary+"\r\n")
		}, Unavailable},
		"hangs up":          {func(io.Writer) {}, Unavailable},
		"hangs":             {func(io.Writer) { time.Sleep(time.Hour) }, Unavailable},
		"hangs later":       {func(w io.Writer) { io.WriteString(w, "HTTP/1.1 200 OK\r\n"); time.Sleep(time.Hour) }, Unavailable},
		"a header for ever": {repeatedly("HTTP/1.1 200 OK\r\n", "X: "+kilobyte+"\r\n", 0), Unavailable},
		"slow headers":      {repeatedly("HTTP/1.1 200 OK\r\n", "X: y\r\n", 100*time.Millisecond), Unavailable},
		"early hints":       {repeatedly("", "HTTP/1.1 103 Early Hints\r\n\r\n", 0), Unavailable},
		"a gigabyte":        {repeatedly("HTTP/1.1 200 OK\r\nContent-Length: 1073741824\r\n\r\n"+`{"active": true, "x": "`, kilobyte, 0), Unavailable},
		"blanks for ever":   {repeatedly("HTTP/1.1 200 OK\r\n\r\n"+active, strings.Repeat(" ", 1<<10), 0), Unavailable},
		"chunks for ever":   {repeatedly("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "400\r\n"+kilobyte+"\r\n", 0), Unavailable},
		"a slow answer":     {repeatedly("HTTP/1.1 200 OK\r\n\r\n"+active, " ", 100*time.Millisecond), Unavailable},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := network{make(chan net.Conn), make(chan struct{})}
				defer n.Close()
				written := &counter{}
				var asked atomic.Int32
				go func() {
					for {
						c, err := n.Accept()
						if err != nil {
							return
						}
						go func() {
							defer c.Close()
							if _, err := http.ReadRequest(bufio.NewReader(c)); err != nil {
								return
							}
							asked.Add(1)
							go io.Copy(io.Discard, c) // the rest of the request
							row.write(io.MultiWriter(c, written))
						}()
					}
				}()
				p := &provider{network: n}
				v := p.verifier(t)
				began := time.Now()
				claims, err := v.Verify(t.Context(), canary, home)
				if took := time.Since(began); took > limits.TokenTimeout {
					t.Errorf("took %v", took)
				}
				if got := refusedFor(t, err); got != row.want || (claims != nil) != (row.want == "") {
					t.Errorf("refused for %q with claims %v, want %q", got, claims, row.want)
				}
				if written.n.Load() > 1<<20 {
					t.Errorf("read %d bytes", written.n.Load())
				}
				if asked.Load() != 1 {
					t.Errorf("asked %d times", asked.Load())
				}
				if err != nil {
					holds(t, err.Error(), canary)
					if !strings.Contains(p.logged(), "error=") {
						t.Error("nothing was logged")
					}
				}
				holds(t, p.logged(), "panic", canary, "S3CRET", gatewaySecret, url.QueryEscape(gatewaySecret),
					base64.StdEncoding.EncodeToString([]byte(url.QueryEscape(gatewayID)+":"+url.QueryEscape(gatewaySecret))))
				v.fetch.client.CloseIdleConnections()
				time.Sleep(2 * time.Hour) // until nobody hangs any more
			})
		})
	}
}

type counter struct{ n atomic.Int64 }

func (c *counter) Write(b []byte) (int, error) {
	c.n.Add(int64(len(b)))
	return len(b), nil
}

// A connection that the provider closed meanwhile is no trouble.
func TestConnectionsThatWereClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := serve(t)
		v := p.verifier(t)
		want(t, v, "first", Inactive)
		p.answer = func(w http.ResponseWriter, r *http.Request) {
			if p.about("second") == 1 {
				panic(http.ErrAbortHandler)
			}
			fmt.Fprint(w, active)
		}
		want(t, v, "second", "")
		if n := p.about("second"); n != 2 {
			t.Errorf("asked %d times, want twice", n)
		}
	})
}

func TestProviderBehindTLS(t *testing.T) {
	p := &provider{answers: map[string]string{"token": active}}
	server := httptest.NewUnstartedServer(p)
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // of handshakes that fail, as they should
	server.StartTLS()
	defer server.Close()
	trusting := server.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
	here := func(o *Options) { o.IntrospectionURL, o.dial = server.URL, nil }
	want(t, p.verifier(t, here, func(o *Options) { o.RootCAs = trusting }), "token", "")
	want(t, p.verifier(t, here), "token", Unavailable)
	if log := p.logged(); !strings.Contains(log, "certificate signed by unknown authority") {
		t.Errorf("the log does not say what is wrong: %s", log)
	}
	if p.about("token") != 1 {
		t.Error("the token was sent to an unknown provider")
	}
}

// A connection that is dead without anybody saying so, as after a failover,
// must not keep the provider out of reach until the kernel gives it up, which
// takes a quarter of an hour. HTTP/2 would go on using it.
func TestConnectionThatIsDead(t *testing.T) {
	certified := httptest.NewTLSServer(nil)
	defer certified.Close()
	trusted := x509.NewCertPool()
	trusted.AddCert(certified.Certificate())
	synctest.Test(t, func(t *testing.T) {
		p := &provider{network: network{make(chan net.Conn), make(chan struct{})}}
		p.answer = func(w http.ResponseWriter, r *http.Request) {
			if r.ProtoMajor != 2 {
				t.Errorf("asked by %s", r.Proto)
			}
			fmt.Fprint(w, active)
		}
		server := &http.Server{Handler: p, TLSConfig: certified.TLS.Clone()}
		server.TLSConfig.NextProtos = []string{"h2"}
		go server.ServeTLS(p.network, "", "")
		defer server.Close()
		var conns []*deadConn
		v := p.verifier(t, func(o *Options) {
			o.IntrospectionURL, o.RootCAs = "https://127.0.0.1/introspect", trusted
			o.dial = func(ctx context.Context, network, address string) (net.Conn, error) {
				conn, err := p.dial(ctx, network, address)
				if err != nil {
					return nil, err
				}
				c := &deadConn{Conn: conn}
				p.set(func() { conns = append(conns, c) })
				return c, nil
			}
		})
		want(t, v, "first", "")
		p.set(func() {
			for _, c := range conns {
				c.dead.Store(true)
			}
		})
		began := time.Now()
		for n := 0; try(t, v, fmt.Sprintf("token-%d", n), home) != ""; n++ {
			if time.Since(began) > 20*time.Second {
				t.Fatal("the dead connection is still used")
			}
			time.Sleep(time.Second)
		}
		v.fetch.client.CloseIdleConnections()
	})
}

// deadConn is a connection that, once dead, takes what is written and brings
// nothing.
type deadConn struct {
	net.Conn
	dead atomic.Bool
}

func (c *deadConn) Read(b []byte) (int, error) {
	for {
		n, err := c.Conn.Read(b)
		if err != nil || !c.dead.Load() {
			return n, err
		}
	}
}

func (c *deadConn) Write(b []byte) (int, error) {
	if c.dead.Load() {
		return len(b), nil
	}
	return c.Conn.Write(b)
}
