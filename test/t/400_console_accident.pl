# The whole accident in the console, from the alarm to settled accounts: by mouse, and by
# keyboard alone.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";

use Console;

run_console_tests('accident');
