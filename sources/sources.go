// Package sources tells whose a sending address is. It speaks PTR and MMDB,
// and has a catalogue of known senders. Looking up is a pass of its own,
// never part of taking in reports or of answering a request.
package sources
