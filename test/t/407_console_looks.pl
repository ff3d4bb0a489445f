# How the console looks and is read: on a phone, in the dark, by a screen reader.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";

use Console;

run_console_tests('looks');
