package main

import (
	"io"
	"log/slog"
)

// Words of log_level and log_format.
var (
	logLevels  = []string{"debug", "info", "warn", "error"}
	logFormats = []string{"auto", "text", "json"}
)

// newLogger logs to w as configured: text on a terminal and JSON elsewhere,
// unless told otherwise. What strangers wrote is escaped in either: no value
// can begin a line of its own or speak to the terminal.
func newLogger(w io.Writer, cfg *config) *slog.Logger {
	var level slog.Level
	// The word was checked with the configuration.
	_ = level.UnmarshalText([]byte(cfg.LogLevel))
	options := &slog.HandlerOptions{Level: level}
	if cfg.LogFormat == "text" || cfg.LogFormat == "auto" && isTerminal(w) {
		return slog.New(slog.NewTextHandler(w, options))
	}
	return slog.New(slog.NewJSONHandler(w, options))
}
