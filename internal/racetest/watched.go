//go:build race

package racetest

// watched is whether races are watched for.
const watched = true
