package guest

import (
	"bytes"
	"debug/elf"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
)

// kernel is an unpacked kernel package.
type kernel struct {
	image   string
	modules map[string]string // path by name
}

// Fetch gets what Boot needs of the network into the folder, once: the kernel of Debian's package.
func Fetch(folder string) error {
	_, err := fetchKernel(folder)
	return err
}

// fetchKernel gets Debian's kernel package by apt, once, and unpacks it; nothing is installed.
func fetchKernel(folder string) (kernel, error) {
	root := filepath.Join(folder, "kernel")
	if _, err := os.Stat(root); err != nil {
		if err := download(folder, root); err != nil {
			return kernel{}, err
		}
	}
	images, err := filepath.Glob(filepath.Join(root, "boot/vmlinuz-*"))
	if err != nil || len(images) != 1 {
		return kernel{}, fmt.Errorf("%s has %d kernels (%v)", root, len(images), err)
	}
	k := kernel{image: images[0], modules: map[string]string{}}
	return k, filepath.WalkDir(filepath.Join(root, "lib/modules"), func(path string, _ fs.DirEntry, err error) error {
		if name, ok := strings.CutSuffix(filepath.Base(path), ".ko"); ok {
			k.modules[strings.ReplaceAll(name, "-", "_")] = path
		}
		return err
	})
}

func download(folder, root string) error {
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	depends, err := exec.Command("apt-cache", "depends", "linux-image-amd64").Output()
	if err != nil {
		return fmt.Errorf("apt does not know linux-image-amd64 (apt-get update): %w", err)
	}
	found := regexp.MustCompile(`Depends: (linux-image-\S+)`).FindSubmatch(depends)
	if found == nil {
		return fmt.Errorf("linux-image-amd64 depends on no kernel:\n%s", depends)
	}
	get := exec.Command("apt-get", "download", string(found[1]))
	get.Dir = folder
	if out, err := get.CombinedOutput(); err != nil {
		return fmt.Errorf("%s cannot be downloaded: %w\n%s", found[1], err, out)
	}
	packages, err := filepath.Glob(filepath.Join(folder, string(found[1])+"_*.deb"))
	if err != nil || len(packages) == 0 {
		return fmt.Errorf("%s was downloaded and is not there (%v)", found[1], err)
	}
	if out, err := exec.Command("dpkg", "-x", packages[0], root).CombinedOutput(); err != nil {
		return fmt.Errorf("%s cannot be unpacked: %w\n%s", packages[0], err, out)
	}
	return nil
}

// ordered are the paths of the modules, each after what it depends on.
func (k kernel) ordered(names []string) (paths []string, err error) {
	done := map[string]bool{}
	var add func(name string) error
	add = func(name string) error {
		path, ok := k.modules[name]
		if done[name] || !ok {
			// Not there: built in.
			return nil
		}
		done[name] = true
		depends, err := dependencies(path)
		if err != nil {
			return err
		}
		for _, other := range depends {
			if err := add(other); err != nil {
				return err
			}
		}
		paths = append(paths, path)
		return nil
	}
	for _, name := range names {
		if err := add(name); err != nil {
			return nil, err
		}
	}
	return paths, nil
}

func dependencies(path string) ([]string, error) {
	file, err := elf.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	section := file.Section(".modinfo")
	if section == nil {
		return nil, fmt.Errorf("%s has no .modinfo", path)
	}
	data, err := section.Data()
	if err != nil {
		return nil, err
	}
	for _, entry := range bytes.Split(data, []byte{0}) {
		if list, ok := strings.CutPrefix(string(entry), "depends="); ok && list != "" {
			return strings.Split(strings.ReplaceAll(list, "-", "_"), ","), nil
		}
	}
	return nil, nil
}

// buildImage makes the initramfs: the tunnel, init, modules, and a few programs to look around with.
func buildImage(module, folder string, k kernel, to string) error {
	var a archive
	for _, program := range []struct{ path, source string }{{"init", "./internal/guest/init"}, {"selvedge-tunnel", "."}} {
		built := filepath.Join(folder, program.path)
		build := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", built, program.source)
		build.Dir, build.Env = module, append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			return fmt.Errorf("%s cannot be built: %w\n%s", program.source, err, out)
		}
		if err := a.copy(program.path, built); err != nil {
			return err
		}
	}
	ordered, err := k.ordered(modules)
	if err != nil {
		return err
	}
	for i, path := range ordered {
		if err := a.copy(fmt.Sprintf("modules/%02d-%s", i, filepath.Base(path)), path); err != nil {
			return err
		}
	}
	for _, program := range programs {
		if err := a.program(program); err != nil {
			return err
		}
	}
	return os.WriteFile(to, a.bytes(), 0o644)
}

// archive is a cpio archive (newc), as the kernel unpacks it.
type archive struct {
	buffer bytes.Buffer
	made   map[string]bool
}

// program adds a program under the path that it has here, and its libraries.
func (a *archive) program(path string) error {
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return fmt.Errorf("%s is missing (apt-get install busybox-static wireguard-tools iproute2): %w", path, err)
	}
	if err := a.copy("bin/"+filepath.Base(path), real); err != nil {
		return err
	}
	// A static program has none, and ldd says so by failing.
	out, _ := exec.Command("ldd", real).Output()
	for _, library := range regexp.MustCompile(`(/\S+) \(0x`).FindAllSubmatch(out, -1) {
		from := string(library[1])
		if err := a.copy(strings.TrimPrefix(from, "/"), from); err != nil {
			return err
		}
	}
	return nil
}

func (a *archive) copy(name, from string) error {
	content, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	if !a.made[name] {
		a.folders(name)
		a.entry(name, 0o100755, content)
	}
	return nil
}

func (a *archive) folders(name string) {
	if a.made == nil {
		a.made = map[string]bool{}
	}
	a.made[name] = true
	for i, c := range name {
		if c == '/' && !a.made[name[:i]] {
			a.made[name[:i]] = true
			a.entry(name[:i], 0o040755, nil)
		}
	}
}

func (a *archive) entry(name string, mode int, content []byte) {
	fmt.Fprintf(&a.buffer, "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x", 0, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name)+1, 0)
	a.buffer.WriteString(name)
	a.buffer.WriteByte(0)
	a.pad()
	a.buffer.Write(content)
	a.pad()
}

func (a *archive) pad() {
	for a.buffer.Len()%4 != 0 {
		a.buffer.WriteByte(0)
	}
}

func (a *archive) bytes() []byte {
	a.entry("TRAILER!!!", 0, nil)
	return a.buffer.Bytes()
}
