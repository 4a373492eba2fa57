package links

import "strings"

// A mark is the alias of a device: `selvedge OWNER SUBJECT`. `ip -d link` shows it. The subject is a network, for a veth
// NETWORK/ATTACHMENT. Only a device with our mark is changed or removed.
const markWord = "selvedge"

// deviceGroup is the interface group in which our devices are made. A device cannot be given its alias in the same step in which it
// is made, but its group it can: a device with one of our names, this group and no alias is one that a killed tunnel left half made.
const deviceGroup = 0x5e1

// Mark is the alias for a device of the owner.
func Mark(owner, subject string) string { return markWord + " " + owner + " " + subject }

// parseMark splits a mark; ok is false for any other alias.
func parseMark(alias string) (owner, subject string, ok bool) {
	words := strings.Split(alias, " ")
	if len(words) != 3 || words[0] != markWord {
		return "", "", false
	}
	return words[1], words[2], true
}
