// ech is a client that encrypts its ClientHello: the name of the server that it means stands in the encrypted part, and another one where
// everybody can read it. It is Go's own, as programs are written with it.
//
//	ech PROXY POD PUBLIC INNER PORT CA
//
// It first meets a server of its own that can read the encrypted part, which shows that it does what it says. Then it asks the proxy at PROXY,
// from the address POD, for a tunnel to PUBLIC:PORT, and begins a handshake in it: for INNER, with PUBLIC as the name that can be read; and
// once more for PUBLIC in the open, trusting CA. It prints what became of each as a JSON object, and fails where its own server was not
// reached as it should be.
package main

import (
	"bufio"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"time"
)

const patience = 20 * time.Second

// told is what became of each handshake: "ok", or the error.
type told struct {
	Own       string `json:"own"`
	Encrypted string `json:"encrypted"`
	Open      string `json:"open"`
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "ech:", err)
		os.Exit(1)
	}
}

func run(arguments []string) error {
	if len(arguments) != 6 {
		return errors.New("usage: ech PROXY POD PUBLIC INNER PORT CA")
	}
	proxy, pod, public, inner, port, ca := arguments[0], arguments[1], arguments[2], arguments[3], arguments[4], arguments[5]
	key, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	config := encryptedHello(key.PublicKey().Bytes(), public)
	list := prefixed16(config)
	if err := meetOwn(key, config, list, public, inner); err != nil {
		return fmt.Errorf("its own server: %w", err)
	}

	pem, err := os.ReadFile(ca)
	if err != nil {
		return err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return errors.New("no certificate in the file of the CA")
	}
	through := func(config *tls.Config) error {
		connection, err := tunnel(proxy, pod, net.JoinHostPort(public, port))
		if err != nil {
			return err
		}
		defer connection.Close()
		return tls.Client(connection, config).Handshake()
	}
	encrypted := through(&tls.Config{ServerName: inner, RootCAs: roots, MinVersion: tls.VersionTLS13, EncryptedClientHelloConfigList: list})
	open := through(&tls.Config{ServerName: public, RootCAs: roots, MinVersion: tls.VersionTLS13})
	return json.NewEncoder(os.Stdout).Encode(told{Own: "ok", Encrypted: outcome(encrypted), Open: outcome(open)})
}

func outcome(err error) string {
	if err != nil {
		return err.Error()
	}
	return "ok"
}

// encryptedHello is an ECHConfig (RFC 9849) with one key for X25519, HKDF-SHA256 and AES-128-GCM.
func encryptedHello(key []byte, public string) []byte {
	contents := []byte{1}                                      // config_id
	contents = binary.BigEndian.AppendUint16(contents, 0x0020) // kem_id
	contents = append(contents, prefixed16(key)...)
	contents = append(contents, prefixed16([]byte{0, 1, 0, 1})...) // kdf_id, aead_id
	contents = append(contents, 0)                                 // maximum_name_length
	contents = append(contents, byte(len(public)))
	contents = append(contents, public...)
	contents = append(contents, 0, 0) // extensions
	return append([]byte{0xfe, 0x0d}, prefixed16(contents)...)
}

func prefixed16(bytes []byte) []byte {
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(bytes))), bytes...)
}

// meetOwn has the handshake with a server that knows the key.
func meetOwn(key *ecdh.PrivateKey, config, list []byte, names ...string) error {
	certificate, roots, err := selfSigned(names)
	if err != nil {
		return err
	}
	keys := []tls.EncryptedClientHelloKey{{Config: config, PrivateKey: key.Bytes()}}
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{
		Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS13, EncryptedClientHelloKeys: keys,
	})
	if err != nil {
		return err
	}
	defer listener.Close()
	go func() {
		if connection, err := listener.Accept(); err == nil {
			defer connection.Close()
			_ = connection.(*tls.Conn).Handshake()
		}
	}()
	inner := names[len(names)-1]
	dialer := &net.Dialer{Timeout: patience}
	connection, err := tls.DialWithDialer(dialer, "tcp", listener.Addr().String(), &tls.Config{
		ServerName: inner, RootCAs: roots, MinVersion: tls.VersionTLS13, EncryptedClientHelloConfigList: list,
	})
	if err != nil {
		return err
	}
	defer connection.Close()
	if !connection.ConnectionState().ECHAccepted {
		return errors.New("it did not read the encrypted part")
	}
	return nil
}

func selfSigned(names []string) (tls.Certificate, *x509.CertPool, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: names, NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	roots := x509.NewCertPool()
	roots.AddCert(parsed)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, roots, nil
}

// tunnel asks the proxy for one.
func tunnel(proxy, pod, authority string) (net.Conn, error) {
	dialer := net.Dialer{Timeout: patience, LocalAddr: &net.TCPAddr{IP: net.ParseIP(pod)}}
	connection, err := dialer.Dial("tcp", proxy)
	if err != nil {
		return nil, err
	}
	if err := connection.SetDeadline(time.Now().Add(patience)); err != nil {
		return nil, err
	}
	if _, err := fmt.Fprintf(connection, "CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\n", authority, authority); err != nil {
		return nil, err
	}
	// Nothing comes behind the head before the client has begun its handshake.
	answer, err := http.ReadResponse(bufio.NewReader(connection), &http.Request{Method: http.MethodConnect})
	if err != nil {
		return nil, err
	}
	if answer.StatusCode != http.StatusOK {
		return nil, errors.New(answer.Status)
	}
	return connection, nil
}
