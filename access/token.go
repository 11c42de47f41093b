package access

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"hash/crc32"
	"strings"

	"github.com/dmarcd/dmarcd/dmarc"
)

// prefix begins every secret, so that it is known for what it is where it
// should not be: in logs, in repositories.
const prefix = "dmarcd_"

// Lengths of the parts of a secret: 128 bits of chance and more, and a sum.
const (
	randomLength = 26
	sumLength    = 7
)

var base = base32.StdEncoding.WithPadding(base32.NoPadding)

// NewSecret makes the secret of a token.
func NewSecret() string {
	random := rand.Text()[:randomLength]
	return prefix + random + sumOf(random)
}

func sumOf(random string) string {
	var sum [4]byte
	binary.BigEndian.PutUint32(sum[:], crc32.ChecksumIEEE([]byte(random)))
	return base.EncodeToString(sum[:])
}

// DigestOf returns what is kept of a secret. It reports false for what cannot
// be a secret, so that nobody has to be asked about it. There is enough chance in a
// secret that a plain hash keeps it.
func DigestOf(secret string) (dmarc.Digest, bool) {
	rest, ok := strings.CutPrefix(strings.TrimSpace(secret), prefix)
	if !ok || len(rest) != randomLength+sumLength || sumOf(rest[:randomLength]) != rest[randomLength:] {
		return dmarc.Digest{}, false
	}
	return sha256.Sum256([]byte(prefix + rest)), true
}
