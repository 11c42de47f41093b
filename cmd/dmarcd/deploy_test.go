package main

import (
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/dmarcd/dmarcd/internal/porttest"
	"github.com/dmarcd/dmarcd/postgres/pgtest"
)

// deployed reads a file for those who deploy dmarcd.
func deployed(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// imageUser is who the image runs as.
func imageUser(t *testing.T) int {
	t.Helper()
	m := regexp.MustCompile(`(?m)^USER (\d+):(\d+)$`).FindStringSubmatch(deployed(t, "Dockerfile"))
	if m == nil || m[1] != m[2] {
		t.Fatal("the Dockerfile names no user by number")
	}
	id, err := strconv.Atoi(m[1])
	if err != nil || id == 0 {
		t.Fatalf("the image runs as user %s", m[1])
	}
	return id
}

// The manifests for Kubernetes parse, and run dmarcd as it wants to be run: as the user of
// the image, with nothing to write to but its volumes.
func TestTheKubernetesManifestIsSound(t *testing.T) {
	type probe struct {
		HTTPGet struct{ Path, Port string } `yaml:"httpGet"`
	}
	kinds := map[string]int{}
	var config string
	decoder := yaml.NewDecoder(strings.NewReader(deployed(t, "deploy/kubernetes.yaml")))
	for {
		var object struct {
			APIVersion string `yaml:"apiVersion"`
			Kind       string
			Metadata   struct{ Name string }
			Data       map[string]string
			Spec       struct {
				Template struct {
					Spec struct {
						SecurityContext struct {
							RunAsNonRoot bool `yaml:"runAsNonRoot"`
							RunAsUser    int  `yaml:"runAsUser"`
							FSGroup      int  `yaml:"fsGroup"`
						} `yaml:"securityContext"`
						Containers []struct {
							Args            []string
							SecurityContext struct {
								ReadOnlyRootFilesystem   bool  `yaml:"readOnlyRootFilesystem"`
								AllowPrivilegeEscalation *bool `yaml:"allowPrivilegeEscalation"`
								Capabilities             struct{ Drop []string }
							} `yaml:"securityContext"`
							ReadinessProbe probe                                  `yaml:"readinessProbe"`
							LivenessProbe  probe                                  `yaml:"livenessProbe"`
							VolumeMounts   []struct{ Name, MountPath string }     `yaml:"volumeMounts"`
							Ports          []struct{ Name, ContainerPort string } `yaml:"ports"`
						}
						Volumes []struct{ Name string }
					}
				}
			}
		}
		if err := decoder.Decode(&object); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		if object.APIVersion == "" || object.Kind == "" || object.Metadata.Name == "" {
			t.Errorf("an object without apiVersion, kind or name: %+v", object)
		}
		kinds[object.Kind]++
		config += object.Data["dmarcd.toml"]
		if object.Kind != "Deployment" {
			continue
		}
		pod := object.Spec.Template.Spec
		if user := imageUser(t); !pod.SecurityContext.RunAsNonRoot || pod.SecurityContext.RunAsUser != user || pod.SecurityContext.FSGroup != user {
			t.Errorf("the pod runs as %+v, the image as %d", pod.SecurityContext, user)
		}
		if len(pod.Containers) != 1 {
			t.Fatalf("%d containers", len(pod.Containers))
		}
		for _, c := range pod.Containers {
			if len(c.Args) == 0 || findCommand(c.Args[0]) == nil {
				t.Errorf("args %q name no command", c.Args)
			}
			s := c.SecurityContext
			if !s.ReadOnlyRootFilesystem || s.AllowPrivilegeEscalation == nil || *s.AllowPrivilegeEscalation || !slices.Contains(s.Capabilities.Drop, "ALL") {
				t.Errorf("the container is not confined: %+v", s)
			}
			if c.ReadinessProbe.HTTPGet.Path != "/readyz" || c.LivenessProbe.HTTPGet.Path != "/healthz" {
				t.Errorf("probes ask %q and %q", c.ReadinessProbe.HTTPGet.Path, c.LivenessProbe.HTTPGet.Path)
			}
			for _, m := range c.VolumeMounts {
				if !slices.ContainsFunc(pod.Volumes, func(v struct{ Name string }) bool { return v.Name == m.Name }) {
					t.Errorf("there is no volume %s", m.Name)
				}
			}
		}
	}
	for _, kind := range []string{"Deployment", "Service", "Secret", "ConfigMap"} {
		if kinds[kind] != 1 {
			t.Errorf("%d of %s", kinds[kind], kind)
		}
	}
	// Its configuration is taken, with its secrets in their files.
	secrets := t.TempDir()
	for name, text := range map[string]string{"database_url": "postgres://dmarcd@127.0.0.1/dmarcd", "imap_password": "s3cret"} {
		if err := os.WriteFile(filepath.Join(secrets, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	file := writeFile(t, "dmarcd.toml", strings.ReplaceAll(config, "/run/secrets/dmarcd", secrets))
	if got := (world{}).run(t, "config", "--config", file); got.status != exitDone || !strings.Contains(got.stdout, "0.0.0.0:8080") {
		t.Errorf("%+v", got)
	}
}

// Compose runs dmarcd with nothing to write to, and on loopback only.
func TestTheComposeFileIsSound(t *testing.T) {
	var file struct {
		Services map[string]struct {
			ReadOnly    bool     `yaml:"read_only"`
			CapDrop     []string `yaml:"cap_drop"`
			SecurityOpt []string `yaml:"security_opt"`
			TmpFS       []string `yaml:"tmpfs"`
			Ports       []string
			Environment map[string]string
			Secrets     []string
			Networks    []string
			Volumes     []string
		}
		Networks, Volumes, Secrets map[string]any
	}
	if err := yaml.Unmarshal([]byte(deployed(t, "deploy/compose.yaml")), &file); err != nil {
		t.Fatal(err)
	}
	d, ok := file.Services["dmarcd"]
	if !ok || !d.ReadOnly || !slices.Contains(d.CapDrop, "ALL") || !slices.Contains(d.SecurityOpt, "no-new-privileges:true") || !slices.Contains(d.TmpFS, "/tmp") {
		t.Errorf("the container is not confined: %+v", d)
	}
	for name, s := range file.Services {
		for _, port := range s.Ports {
			if !strings.HasPrefix(port, "127.0.0.1:") {
				t.Errorf("%s is reached at %s", name, port)
			}
		}
		for _, secret := range s.Secrets {
			if _, ok := file.Secrets[secret]; !ok {
				t.Errorf("%s: there is no secret %s", name, secret)
			}
		}
		for _, network := range s.Networks {
			if _, ok := file.Networks[network]; !ok {
				t.Errorf("%s: there is no network %s", name, network)
			}
		}
		for _, volume := range s.Volumes {
			volume, _, _ = strings.Cut(volume, ":")
			if _, ok := file.Volumes[volume]; !ok {
				t.Errorf("%s: there is no volume %s", name, volume)
			}
		}
		for variable, value := range s.Environment {
			if path, ok := strings.CutPrefix(value, "/run/secrets/"); ok && !slices.Contains(s.Secrets, path) {
				t.Errorf("%s: %s names a secret that it is not given", name, variable)
			}
		}
	}
}

// What is in the image is enough: the binary, and nothing else but folders for it, owned
// by root as all of the image, serves as the user of the image, and knows whether it is ready.
func TestNothingButTheImageIsNeeded(t *testing.T) {
	text := deployed(t, "Dockerfile")
	for _, part := range []string{"\nFROM scratch\n", "\nENTRYPOINT [\"/usr/bin/dmarcd\"]\n", "\nCMD [\"serve\"]", "[\"/usr/bin/dmarcd\", \"healthcheck\"]", "\nVOLUME /var/lib/dmarcd\n"} {
		if !strings.Contains(text, part) {
			t.Errorf("the Dockerfile does not say %q", part)
		}
	}
	user := imageUser(t)
	if os.Geteuid() != 0 {
		t.Skip("NOT RUN: only root can run a program with another folder for /")
	}
	root := t.TempDir()
	binary, err := os.ReadFile(build(t))
	if err != nil {
		t.Fatal(err)
	}
	for name, mode := range map[string]os.FileMode{"usr/bin": 0o755, "etc": 0o755, "tmp": 0o1777, "var/lib/dmarcd": 0o700} {
		path := filepath.Join(root, name)
		if err := errors.Join(os.MkdirAll(path, 0o755), os.Chmod(path, mode)); err != nil {
			t.Fatal(err)
		}
	}
	os.Chmod(root, 0o755)
	if err := errors.Join(os.WriteFile(filepath.Join(root, "usr/bin/dmarcd"), binary, 0o755), os.Chown(filepath.Join(root, "var/lib/dmarcd"), user, user),
		os.WriteFile(filepath.Join(root, "etc/passwd"), []byte("dmarcd:x:"+strconv.Itoa(user)+":"+strconv.Itoa(user)+":dmarcd:/var/lib/dmarcd:/\n"), 0o644)); err != nil {
		t.Fatal(err)
	}
	address := porttest.FreeAddress(t)
	run := func(args ...string) *exec.Cmd {
		cmd := exec.Command("/usr/bin/dmarcd", args...)
		cmd.Dir = "/"
		cmd.Env = []string{
			"DMARCD_DATA_DIR=/var/lib/dmarcd", "DMARCD_LISTEN=" + address, "DMARCD_DATABASE_URL=" + overTCP(t, pgtest.URL(t)), "DMARCD_RECORDS_WATCH=false", "DMARCD_SOURCES_LOOKUP=false",
		}
		cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: root, Credential: &syscall.Credential{Uid: uint32(user), Gid: uint32(user)}}
		return cmd
	}
	r := &running{t: t, cmd: run("serve"), base: "http://" + address, log: new(lockedBuffer)}
	r.cmd.Stdout, r.cmd.Stderr = r.log, r.log
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.stop(syscall.SIGKILL) })
	r.ready()
	r.upload(aReport("in the image"), http.StatusCreated)
	if out, err := run("healthcheck").CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
	if status := r.stop(syscall.SIGTERM); status != exitDone {
		t.Errorf("status %d\n%s", status, r.log)
	}
	if out, err := run("healthcheck").CombinedOutput(); err == nil {
		t.Errorf("it is ready although it does not run: %s", out)
	}
}

// overTCP makes a database that listens on a socket reachable over TCP.
func overTCP(t *testing.T, database string) string {
	t.Helper()
	u, err := url.Parse(database)
	if err != nil {
		t.Fatal(err)
	}
	q := u.Query()
	dir := q.Get("host")
	if dir == "" {
		return database // it is already
	}
	port := q.Get("port")
	if port == "" {
		port = "5432"
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			from, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer from.Close()
				to, err := net.Dial("unix", filepath.Join(dir, ".s.PGSQL."+port))
				if err != nil {
					return
				}
				defer to.Close()
				go func() {
					io.Copy(to, from)
					to.Close()
				}()
				io.Copy(from, to)
			}()
		}
	}()
	q.Del("host")
	q.Del("port")
	q.Set("sslmode", "disable")
	u.Host, u.RawQuery = listener.Addr().String(), q.Encode()
	return u.String()
}
