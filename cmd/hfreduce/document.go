// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// checkDocumentName refuses a name for -J whose extension promises something else than JSON. "" means no document.
func checkDocumentName(path string) error {
	if path != "" && filepath.Ext(path) != ".json" {
		return fmt.Errorf("-J %s: only JSON can be written; give a name that ends in .json", path)
	}
	return nil
}

// createDocument creates the file of -J. Like nccl-tests it never overwrites a result: if the file exists and is not
// empty, it takes the first free name of FILE.0, FILE.1 and so on.
func createDocument(path string) (*os.File, error) {
	if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() && info.Size() == 0 {
		return os.OpenFile(path, os.O_WRONLY, 0)
	}
	name := path
	for i := 0; ; i++ {
		file, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
		if err == nil || !errors.Is(err, fs.ErrExist) {
			return file, err
		}
		name = fmt.Sprintf("%s.%d", path, i)
	}
}
