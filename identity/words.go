package identity

import (
	"crypto/sha256"
	"strings"

	"github.com/centram/centram"
	"github.com/tyler-smith/go-bip39/wordlists"
)

// wordCount words of a list of 2048 stand for 66 bits: enough that nobody finds a key whose words are another's while two
// people compare them.
const wordCount = 6

// Words are what two people read out to each other to see that both screens mean the same node: the first bits of
// SHA-256("centram/1/words" || id), eleven a word, in the English list of BIP-39.
func Words(id centram.PeerID) string { return words("centram/1/words", id) }

// WordsOf are what two people compare to see that both screens have the same secret, and so that nobody is in between. They
// tell nothing about it.
func WordsOf(secret [32]byte) string { return words("centram/1/secret words", secret) }

func words(purpose string, of [32]byte) string {
	sum := sha256.Sum256(append([]byte(purpose), of[:]...))
	list := make([]string, wordCount)
	for i := range list {
		n := 0
		for bit := 11 * i; bit < 11*(i+1); bit++ {
			n = n<<1 | int(sum[bit/8]>>(7-bit%8)&1)
		}
		list[i] = wordlists.English[n]
	}
	return strings.Join(list, " ")
}
