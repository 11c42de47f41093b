package main

import (
	"context"
	"encoding/json"
	"fmt"
	"runtime"
	"runtime/debug"
)

// version and commit are stamped by the linker; without, they are what Go
// noted when it built the binary.
var (
	version = ""
	commit  = ""
)

func init() {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		info = &debug.BuildInfo{}
	}
	version, commit = stamp(version, commit, info)
}

// stamp completes version and commit from what Go noted.
func stamp(version, commit string, info *debug.BuildInfo) (string, string) {
	if version == "" {
		version = info.Main.Version
	}
	if version == "" || version == "(devel)" {
		version = "devel"
	}
	if commit == "" {
		dirty := ""
		for _, s := range info.Settings {
			switch {
			case s.Key == "vcs.revision":
				commit = s.Value
			case s.Key == "vcs.modified" && s.Value == "true":
				dirty = "-dirty"
			}
		}
		if commit != "" {
			commit += dirty
		}
	}
	return version, commit
}

const versionUsage = `Prints which dmarcd this is: version, commit, and how it was built.`

func runVersion(ctx context.Context, env *environ, args []string) error {
	fs := env.flags("version", "", versionUsage)
	format := fs.choice("format", "how to print it", "text", "json")
	if err := fs.Parse(args); err != nil {
		return err
	}
	v := struct {
		Version  string `json:"version"`
		Commit   string `json:"commit"`
		Go       string `json:"go"`
		Platform string `json:"platform"`
	}{version, commit, runtime.Version(), runtime.GOOS + "/" + runtime.GOARCH}
	if format.word == "json" {
		return json.NewEncoder(env.stdout).Encode(v)
	}
	if v.Commit == "" {
		v.Commit = "unknown"
	}
	_, err := fmt.Fprintf(env.stdout, "dmarcd %s\ncommit %s\nbuilt with %s for %s\n", v.Version, v.Commit, v.Go, v.Platform)
	return err
}
