//go:build race

package racetest

// Watched is whether races are watched for.
const Watched = true
